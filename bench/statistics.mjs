// Statistics of the measurements: order of turns, medians with their intervals, and goals.

/** Minimum number of rounds for an interval: six values lie all on one side of the median once in 32 times. */
export const FEWEST_ROUNDS = 6;
const CONFIDENCE = 0.95;

export function median(numbers) {
  const sorted = ascending(numbers);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Interval that holds the median of the distribution in at least 95 % of all cases; null for fewer than six numbers.
 *
 * Its ends are two of the numbers: the k-th lowest and the k-th highest. The median lies outside only if fewer than k numbers
 * are on one side of it, and the side of each number is a fair coin for any distribution. A disturbed round is an outlier on one
 * side: a standard deviation would widen the interval for all rounds, and a bootstrap of the median of a dozen rounds is too
 * narrow.
 */
export function interval(numbers) {
  const count = numbers.length;
  // Probability that exactly `below` of all numbers are below the median, and probability of at most that many.
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
 * Order in which `count` sides take their turns in a round. In each pair of rounds, each side is once before and once after each
 * other side. In `count` rounds (twice as many if `count` is odd), each side follows each other side directly equally often (a
 * Williams design), because a side leaves caches and queues behind for the next one.
 */
export function turns(count, round) {
  const zigzag = Array.from({ length: count }, (_, at) => (at % 2 ? (at + 1) / 2 : count - at / 2) % count);
  const order = zigzag.map((side) => (side + Math.floor(round / 2)) % count);
  return round % 2 ? order.reverse() : order;
}

/** Measured figure: the median of several rounds and its interval. */
export function sample(unit, rounds) {
  const rounded = rounds.map((number) => Number(number.toPrecision(6)));
  return { value: median(rounded), interval: interval(rounded), unit, rounds: rounded };
}

/** Counted figure: the highest of all rounds. It has no interval. */
export function count(unit, rounds) {
  return { value: Math.max(...rounds), unit, rounds };
}

/** `reached` or `missed` if the whole interval, or the count, is on one side of the goal; `undecided` otherwise. */
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
