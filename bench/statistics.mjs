// The arithmetic of the measurements: the order of turns, medians with their intervals, and goals.

/** Fewer rounds than these have no interval: six values lie all on one side of the median once in 32 times. */
export const FEWEST_ROUNDS = 6;
const CONFIDENCE = 0.95;

export function median(numbers) {
  const sorted = ascending(numbers);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * The interval that holds the median of what the numbers were drawn from in at least 95 % of all cases; null for fewer than six.
 *
 * Its ends are two of the numbers: the k-th lowest and the k-th highest. The median lies outside only where fewer than k numbers
 * fell on one side of it, and each falls there like a coin, however they are distributed. Rounds that something else on the machine
 * disturbed are far off and not symmetric, which an interval made of a standard deviation takes for doubt about all others; and a
 * bootstrap of the median of a dozen rounds is too narrow.
 */
export function interval(numbers) {
  const count = numbers.length;
  // The chance that exactly `below` of all numbers are below the median, and the chance that at most so many are.
  let exactly = 0.5 ** count;
  let atMost = exactly;
  let below = 0;
  if (2 * atMost > 1 - CONFIDENCE) return null;
  for (;;) {
    exactly *= (count - below) / (below + 1);
    if (2 * (atMost + exactly) > 1 - CONFIDENCE) break;
    atMost += exactly;
    below += 1;
  }
  const sorted = ascending(numbers);
  return [sorted[below], sorted[count - 1 - below]];
}

/**
 * The order in which `count` sides take their turns in a round. In each pair of rounds, every side is once before and once after every
 * other one. In `count` rounds, or twice as many where `count` is odd, every side follows at once every other one equally often
 * (a Williams design), because a side may leave caches and queues behind that the next one finds.
 */
export function turns(count, round) {
  const zigzag = Array.from({ length: count }, (_, at) => (at % 2 ? (at + 1) / 2 : count - at / 2) % count);
  const order = zigzag.map((side) => (side + Math.floor(round / 2)) % count);
  return round % 2 ? order.reverse() : order;
}

/** What was measured in several rounds: the median, and its interval. */
export function sample(unit, rounds) {
  const rounded = rounds.map((number) => Number(number.toPrecision(6)));
  return { value: median(rounded), interval: interval(rounded), unit, rounds: rounded };
}

/** What was counted: the highest of all rounds. It has no interval. */
export function count(unit, rounds) {
  return { value: Math.max(...rounds), unit, rounds };
}

/** `reached` or `missed` where the whole interval is on one side of the goal, or what was counted is; `undecided` otherwise. */
export function verdict(figure, [sign, goal]) {
  if (figure.interval === null) return 'undecided';
  const meets = { '≥': (value) => value >= goal, '≤': (value) => value <= goal, '=': (value) => value === goal }[sign];
  const [low, high] = (figure.interval ?? [figure.value, figure.value]).map(meets);
  if (low !== high) return 'undecided';
  return low ? 'reached' : 'missed';
}

function ascending(numbers) {
  return numbers.toSorted((one, other) => one - other);
}
