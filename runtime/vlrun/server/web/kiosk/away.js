// Waits in place of the kiosk until something listens at its address again (worker.js).

const RETRY_MS = 2000;

async function look() {
  try {
    await fetch("/health/live");
    location.reload();
  } catch {
    setTimeout(look, RETRY_MS);
  }
}

setTimeout(look, RETRY_MS);
