// Waits for a condition, with a deadline in place of a fixed delay.

const PAUSE_MS = 20;

/** Calls `check` until it returns a truthy value, and returns that value. */
export async function until(check, what, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
