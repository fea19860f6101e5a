// Waiting for something to become true, with a deadline instead of a guess.

const PAUSE_MS = 20;

/** Calls `check` until it returns something truthy, and returns that. */
export async function until(check, what, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
