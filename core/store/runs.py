"""Runs and evaluations, templates and conversations: one JSON record each, artefacts in a folder.

Each kind has the same four verbs: save, find, get, list. Knows nothing of what is in them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sqlmodel import col, select

from core.errors import NotFoundError, UserError
from core.records import Conversation, Evaluation, Run, Template, now
from core.store.database import read, write
from core.store.files import area
from core.store.tables import ConversationRow, EvaluationRow, RunRow, TemplateRow


@lru_cache(maxsize=1024)
def _run(record: str) -> Run:
    """A run out of its record. A page reads all of them at every click, so equal texts are parsed once."""
    return Run.model_validate_json(record)


@lru_cache(maxsize=1024)
def _evaluation(record: str) -> Evaluation:
    return Evaluation.model_validate_json(record)


def save_run(run: Run) -> Run:
    """Write a run's record, new or changed."""
    with write() as session:
        session.merge(RunRow(run_id=run.run_id, job_id=run.job_id, created_at=run.created_at, record=run.model_dump_json()))
    return run


def list_runs() -> list[Run]:
    """All runs, the newest first."""
    with read() as session:
        return [_run(r.record) for r in session.exec(select(RunRow).order_by(col(RunRow.created_at).desc()))]


def get_run(key: str) -> Run:
    """A run by its identifier or its name (the newest of that name)."""
    with read() as session:
        row = session.get(RunRow, key)
    if row is not None:
        return _run(row.record)
    for run in list_runs():
        if run.name == key:
            return run
    raise NotFoundError(f"There is no run {key!r}", "`python -m core runs` lists them.")


def run_folder(run_id: str) -> Path:
    """Where a run's files lie: ``adapter/``, ``checkpoints/``, ``spec.yaml``."""
    return area("runs", run_id)


def save_evaluation(evaluation: Evaluation) -> Evaluation:
    """Write an evaluation's record, new or changed."""
    row = EvaluationRow(
        evaluation_id=evaluation.evaluation_id,
        dataset=evaluation.spec.dataset,
        job_id=evaluation.job_id,
        created_at=evaluation.created_at,
        record=evaluation.model_dump_json(),
    )
    with write() as session:
        session.merge(row)
    return evaluation


def list_evaluations(dataset: str | None = None) -> list[Evaluation]:
    """All evaluations (of a dataset), the newest first."""
    query = select(EvaluationRow).order_by(col(EvaluationRow.created_at).desc())
    if dataset is not None:
        query = query.where(EvaluationRow.dataset == dataset)
    with read() as session:
        return [_evaluation(r.record) for r in session.exec(query)]


def get_evaluation(key: str) -> Evaluation:
    """An evaluation by its identifier or its name (the newest of that name)."""
    with read() as session:
        row = session.get(EvaluationRow, key)
    if row is not None:
        return _evaluation(row.record)
    for evaluation in list_evaluations():
        if evaluation.name == key:
            return evaluation
    raise NotFoundError(f"There is no evaluation {key!r}", "`python -m core evaluations` lists them.")


def evaluation_folder(evaluation_id: str) -> Path:
    """Where an evaluation's predictions and row statistics lie."""
    return area("evaluations", evaluation_id)


def save_template(template: Template) -> Template:
    """Write a template. A version that is in use and differs is refused: save it as the next version."""
    with write() as session:
        row = session.get(TemplateRow, (template.name, template.version))
        if row is not None and row.used:
            old = Template.model_validate_json(row.record)
            if old.model_dump(exclude={"created_at"}) != template.model_dump(exclude={"created_at"}):
                raise UserError(
                    f"Template {template.ref} is in use and can't change", f"Save it as version {template.version + 1}."
                )
            return old
        session.merge(
            TemplateRow(
                name=template.name, version=template.version, used=bool(row and row.used), record=template.model_dump_json()
            )
        )
    return template


def mark_template_used(template: Template) -> None:
    """From now on this version can't change."""
    save_template(template)
    with write() as session:
        row = session.get_one(TemplateRow, (template.name, template.version))
        row.used = True
        session.add(row)


def list_templates() -> list[Template]:
    """All stored templates, by name and version (built-in ones are added by ``core.prompts``)."""
    query = select(TemplateRow).order_by(TemplateRow.name, col(TemplateRow.version))
    with read() as session:
        return [Template.model_validate_json(r.record) for r in session.exec(query)]


def save_conversation(conversation: Conversation) -> Conversation:
    """Write a conversation, new or changed."""
    with write() as session:
        session.merge(
            ConversationRow(conversation_id=conversation.conversation_id, updated_at=now(), record=conversation.model_dump_json())
        )
    return conversation


def list_conversations(most: int | None = None) -> list[Conversation]:
    """All conversations, the last used first, or the first ``most`` of them."""
    with read() as session:
        rows = session.exec(select(ConversationRow).order_by(col(ConversationRow.updated_at).desc()).limit(most))
        return [Conversation.model_validate_json(r.record) for r in rows]


def get_conversation(conversation_id: str) -> Conversation:
    """A conversation by its identifier."""
    with read() as session:
        row = session.get(ConversationRow, conversation_id)
    if row is None:
        raise NotFoundError(f"There is no conversation {conversation_id!r}", "The Chat page lists them.")
    return Conversation.model_validate_json(row.record)


def delete_conversation(conversation_id: str) -> None:
    """Forget a conversation."""
    with write() as session:
        row = session.get(ConversationRow, conversation_id)
        if row is not None:
            session.delete(row)
