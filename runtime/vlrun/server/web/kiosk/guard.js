// Loads the page again if nothing appeared: the service went away while the scripts were on their way.

const LONGEST_MS = 20_000;

setTimeout(() => {
  if (!document.getElementById("kiosk")?.childElementCount) location.reload();
}, LONGEST_MS);

export {};
