// The way from the wall to the console's own pages, for those who may flip there; they ask for
// reason and lease, and lead back here. Without leave the page holds no such link to fill.

/** Addresses of the pages, with the place filled in. */
export function pagesOf(wall, frame) {
  const { flags, overrides, alerts, history, here } = wall.dataset;
  const at = (page, places) => {
    const known = Object.entries(places).filter(([, id]) => id);
    return `${page}?${new URLSearchParams([...known, ["next", here]])}`;
  };
  const may = wall.dataset.may.split(" ");
  const environment = frame.environment.id;
  return {
    history: (places) => history
      && `${history}?${new URLSearchParams({ environment: frame.environment.slug, ...places })}`,
    readOnly: (row) => row.id && at(`${flags}read-only/`, { environment, service: row.id }),
    override: (row, tile) => tile.id
      && at(`${overrides}engage/`, { environment, service: row.id, dependency: tile.id }),
    acknowledge: (each) => may.includes("alert") && !each.acknowledged_by && !each.no_data
      && at(`${alerts}${each.id}/acknowledge/`, {}),
    of: (each, change) => each.id && may.includes(each.type)
      && at(`${each.type === "flag" ? flags : overrides}${each.id}/${change}/`, {}),
  };
}

/** Lets the link called `name` below `root` lead to `address`, and hides it without one. */
export function point(root, name, address) {
  const link = root.querySelector(`[data-link="${name}"]`);
  if (!link) return;
  link.hidden = !address;
  if (address && link.getAttribute("href") !== address) link.href = address;
}
