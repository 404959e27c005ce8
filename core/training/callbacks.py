"""What happens between two steps: metrics out, a stop obeyed, looks at dev, checkpoints made whole. A torch module.

Knows nothing of jobs: it talks to a ``Reporter``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from core.models.load import LoadedModel
from core.models.memory import allocated_memory
from core.records import Reporter, TrainSpec
from core.training.checkpoints import rotate, seal
from core.training.dev import DevRows, Looks, look
from core.training.looking import looks_to_come
from core.training.trainer import StepTrainer
from core.training.usage import UsageMeter

PACES = 50
"""Steps, the last ones, of which the pace is taken that tells the time left."""
TOLD_AGAIN = 1000
"""Logged steps before a checkpoint that are reported again by who goes on after it."""


class NothingLeftError(Exception):
    """Ends a training that was taken up again before its first step: what was owed was a look at dev alone, or it was stopped."""


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Follows one training. ``stopped``: a stop was obeyed before the last step.

    ``tokens``, ``seconds`` of steps, ``load_seconds`` before them and ``look_seconds`` of each look at dev are of this process.
    ``expected_look``: seconds of a look, until one was made. ``began``: when the run began, rests left out (monotonic).
    """

    def __init__(
        self, spec: TrainSpec, reporter: Reporter, loaded: LoadedModel, dev: DevRows | None, looks: Looks, folder: Path
    ) -> None:
        self.stopped = False
        self.converged = False
        self.tokens = 0
        self.steps = 0
        self.seconds = 0.0
        self.load_seconds = 0.0
        self.look_seconds: list[float] = []
        self.expected_look = 0.0
        self.estimated_bytes = 0
        self.began = time.monotonic()
        self.trainer: StepTrainer | None = None
        self.looks = looks
        self._spec, self._reporter, self._loaded, self._dev, self._folder = spec, reporter, loaded, dev, folder
        self._usage: UsageMeter | None = None
        self._paces: deque[float] = deque(maxlen=PACES)
        self._began = time.perf_counter()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self._reporter.progress(state.global_step, state.max_steps, unit="steps")
            self._usage = UsageMeter(str(self._loaded.device))
            self.tell_again(state)
        step, last = state.global_step, state.global_step >= state.max_steps
        if self.owes_look(step, state.max_steps):
            self._look(control, step, last)  # the stop that this run goes on after came before its look
            control.should_save = False
            if last or self.stopped or self.converged:
                self._close()
                raise NothingLeftError
        if self._agreed(self._reporter.should_stop()):  # while the model was loaded
            self.stopped = True
            self._reporter.log("stopping: before a step was taken")
            self._close()
            raise NothingLeftError
        self._began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        assert self.trainer is not None
        step, last = state.global_step, state.global_step >= state.max_steps
        report = self.trainer.last
        spent = time.perf_counter() - self._began
        self.tokens += report.tokens
        self.steps += 1
        self.seconds += spent
        self._paces.append(spent)
        control.should_log = step % self._spec.log_every == 0 or last
        control.should_save = control.should_save or step % self._spec.save_every == 0 or last
        if state.is_world_process_zero:
            busy = self._usage.read() if self._usage is not None else {}
            self._reporter.metrics(step, {"tokens_per_second": report.tokens / spent, **self._memory(), **busy})
            message = f"loss {report.loss:.3f}, {report.tokens / spent:,.0f} tokens/s"
            left = self._left(step, state.max_steps, looks=int(self._is_due(step, state.max_steps)))
            self._reporter.progress(step, state.max_steps, unit="steps", message=message, left=left)
        self._stop_if_asked(control, last)
        if not self.stopped and self._is_due(step, state.max_steps):
            self._look(control, step, last)
        self._began = time.perf_counter()
        return control

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._close()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        values = _logged({**logs, "epoch": float(state.epoch or 0.0)})
        self._reporter.metrics(state.global_step, values)
        assert self.trainer is not None
        report = self.trainer.last
        self._reporter.log(
            f"step {state.global_step}/{state.max_steps}: loss {values['loss']:.4f}, grad norm "
            f"{values.get('grad_norm', float('nan')):.3g}, lr {values.get('learning_rate', 0.0):.3g}, {report.tokens:,} tokens "
            f"in {report.seconds:.2f} s, {report.passes} passes"
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if dist.is_available() and dist.is_initialized():
            dist.barrier()
        if not state.is_world_process_zero:
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        largest = self.trainer.passes.largest if self.trainer is not None else None
        seal(checkpoint, {"largest_pass": largest, "seconds": time.monotonic() - self.began})
        best = self.looks.best()
        rotate(Path(args.output_dir), self._spec.keep_checkpoints, None if best is None else int(best["step"]))
        self._reporter.log(f"checkpoint of step {state.global_step} saved")

    def _stop_if_asked(self, control: TrainerControl, last: bool) -> None:
        if self._agreed(self._reporter.should_stop()) and not last:
            self.stopped = True
            control.should_save = control.should_training_stop = True
            self._reporter.log("stopping: the checkpoint of this step is saved")

    def _tell_integrations(self, control: TrainerControl, values: dict[str, float]) -> None:
        """Pass scores on to ``report_to``; that a loss is still to be logged at this step must not be forgotten by it."""
        assert self.trainer is not None
        due = control.should_log
        self.trainer.log({f"eval_{key}": value for key, value in values.items()})
        control.should_log = due

    def is_at_rest(self) -> bool:
        """Whether the looks at dev have been no better for so long that training ends (``patience``)."""
        return self._spec.patience is not None and self.looks.since_best() >= self._spec.patience

    def owes_look(self, step: int, steps: int) -> bool:
        """Whether dev should have been looked at after ``step`` (of so many), and wasn't: a stop came before."""
        return step > 0 and self._is_due(step, steps) and step not in self.looks.steps

    def tell_again(self, state: TrainerState) -> None:
        """Report what a worker that was killed may have saved and not told any more: losses of its last steps, and its looks."""
        for entry in [entry for entry in state.log_history if "loss" in entry][-TOLD_AGAIN:]:
            self._reporter.metrics(int(entry["step"]), _logged(entry))
        for record in self.looks.records:
            self._reporter.metrics(int(record["step"]), {f"dev_{key}": value for key, value in record.items() if key != "step"})

    def _close(self) -> None:
        if self._usage is not None:
            self._usage.close()

    def _is_due(self, step: int, steps: int) -> bool:
        every = self._spec.eval_every
        return self._dev is not None and (step >= steps or (every is not None and step % every == 0))

    def _look(self, control: TrainerControl, step: int, last: bool) -> None:
        """Look at dev on the first device; the others wait, and learn whether training ends here."""
        ends = cut = False
        if not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0:
            assert self._dev is not None
            assert self.trainer is not None
            began = time.perf_counter()
            message = f"looking at dev: {len(self._dev.rows):,} rows are being answered"
            steps = int(self.trainer.args.max_steps)
            self._reporter.progress(step, steps, unit="steps", message=message, left=self._left(step, steps, looks=1))
            found = look(self._loaded, self._dev, self._spec.eval_max_new_tokens, self._reporter)
            if found is not None:
                values, answers = found
                self.look_seconds.append(time.perf_counter() - began)
                is_best = self.looks.add(step, values, self._dev, answers)
                control.should_save = control.should_save or is_best
                self._reporter.metrics(step, {f"dev_{key}": value for key, value in values.items()})
                self._tell_integrations(control, values)
                shown = ", ".join(f"{key} {value:.4f}" for key, value in values.items())
                best = ", the best so far" if is_best else ""
                self._reporter.log(f"dev at step {step}: {shown}{best} ({self.look_seconds[-1]:.1f} s)")
                if not last:
                    self._reporter.progress(step, steps, unit="steps", message=shown, left=self._left(step, steps))
                ends = self.is_at_rest()
            else:
                cut = True
                self._reporter.log("the look at dev was cut short by a stop")
        control.should_save = self._agreed(control.should_save)
        if self._agreed(ends) and not last:
            self.converged = True
            control.should_save = control.should_training_stop = True
            self._reporter.log(f"no better look at dev for {self._spec.patience} times: training ends here")
        elif self._agreed(cut) or not last:
            self._stop_if_asked(control, last=False)

    def _left(self, step: int, steps: int, looks: int = 0) -> float | None:
        """Seconds to the end: steps and looks at dev still to come, and ``looks`` now; none before a step was made."""
        if not self._paces:
            return None
        usual = list(self._paces)[1:] if len(self._paces) == self.steps > 1 else self._paces  # the first step warms up
        look = sum(self.look_seconds) / len(self.look_seconds) if self.look_seconds else self.expected_look
        looks += looks_to_come(self._spec, step, steps) if self._dev is not None else 0
        return (steps - step) * sum(usual) / len(usual) + looks * look

    def _memory(self) -> dict[str, float]:
        if self._loaded.device.type == "cuda":
            return {"memory_gb": torch.cuda.max_memory_allocated(self._loaded.device) / 1e9}
        return {"memory_gb": allocated_memory("cpu") / 1e9}

    def _agreed(self, value: bool) -> bool:
        """The same answer on all devices: yes if any says yes."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return value
        flag = torch.tensor(int(value), device=self._loaded.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)


def _logged(entry: Mapping[str, float]) -> dict[str, float]:
    """What is reported of a line of transformers' log."""
    return {key: float(entry[key]) for key in ("loss", "grad_norm", "learning_rate", "epoch") if key in entry}
