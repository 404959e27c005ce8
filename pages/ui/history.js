/* Streamlit adds a step to the browser's history whenever a page writes into its address. Where nothing that stands in both
   addresses differs, the page only says what it shows already: no step that anybody would go back to. */
if (!window.tunewiseHistory) {
  window.tunewiseHistory = true;
  const push = history.pushState.bind(history);
  history.pushState = (state, title, url) => {
    const to = new URL(url, location.href);
    const before = new URLSearchParams(location.search);
    const differs = [...before.keys()].some(
      (name) => to.searchParams.has(name) && before.getAll(name).join("\n") !== to.searchParams.getAll(name).join("\n"),
    );
    const step = differs || to.pathname !== location.pathname;
    (step ? push : history.replaceState.bind(history))(state, title, url);
  };
}
