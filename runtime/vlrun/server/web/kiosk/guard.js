// Loads the page again if the kiosk did not appear: the service went away while the scripts were on their way.

const LONGEST_MS = 20_000;

setTimeout(() => {
  if (!document.querySelector("#kiosk > .top")) location.reload();
}, LONGEST_MS);

export {};
