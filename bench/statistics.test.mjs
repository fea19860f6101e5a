import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { randomNumbers } from '../tests/envoy/parts/soak.mjs';
import { count, FEWEST_ROUNDS, interval, median, sample, turns, verdict } from './statistics.mjs';

const upTo = (most) => Array.from({ length: most }, (_, at) => at + 1);

describe('the interval of a median', () => {
  // Critical values of the two-sided sign test at 5 %, plus one.
  const RANKS = { 6: 1, 7: 1, 8: 1, 9: 2, 10: 2, 11: 2, 12: 3, 15: 4, 16: 4, 17: 5, 20: 6, 24: 7, 25: 8, 30: 10, 40: 14, 50: 18 };
  for (const [rounds, rank] of Object.entries(RANKS)) {
    it(`the interval ends at rank ${rank} from below and above of ${rounds}`, () => {
      assert.deepEqual(interval(upTo(Number(rounds)).reverse()), [rank, Number(rounds) + 1 - rank]);
    });
  }

  it('fewer rounds than six have no interval', () => {
    assert.equal(FEWEST_ROUNDS, 6);
    for (const rounds of upTo(5)) assert.equal(interval(upTo(rounds)), null);
  });

  it('the interval holds the median of any distribution 95 times in 100', () => {
    const random = randomNumbers(20_261_127);
    // The medians of these are 0.5, 1 and again 1 with a tenth of the rounds disturbed, half upwards and half downwards.
    const kinds = {
      even: [() => random(), 0.5],
      skewed: [() => -Math.log2(random()), 1],
      disturbed: [() => (random() < 0.1 ? 10 * random() ** 4 + (random() < 0.5 ? 1 : -10) : 1 + 0.02 * (random() - 0.5)), 1],
    };
    for (const rounds of [6, 12, 24, 40]) {
      for (const [kind, [draw, truth]] of Object.entries(kinds)) {
        let held = 0;
        for (let trial = 0; trial < 4000; trial += 1) {
          const [low, high] = interval(Array.from({ length: rounds }, draw));
          if (low <= truth && truth <= high) held += 1;
        }
        assert.ok(held / 4000 >= 0.94, `${kind}, ${rounds} rounds: ${held / 4000}`);
      }
    }
  });

  it('a few disturbed rounds do not move the interval', () => {
    const calm = upTo(24).map((at) => 1 + at / 1000);
    const disturbed = calm.with(0, 50).with(1, 0.01).with(2, 30);
    const [low, high] = interval(disturbed);
    assert.ok(low >= 1.007 && high <= 1.021, `${low} to ${high}`);
  });
});

describe('the turns of a round', () => {
  for (const sides of [2, 5, 6, 7, 8]) {
    it(`each of ${sides} sides is before and after each other in two rounds`, () => {
      for (let round = 0; round < 20; round += 2) {
        const [one, other] = [turns(sides, round), turns(sides, round + 1)];
        assert.deepEqual(one.toSorted((a, b) => a - b), upTo(sides).map((side) => side - 1));
        for (let a = 0; a < sides; a += 1) {
          for (let b = 0; b < a; b += 1) assert.notEqual(one.indexOf(a) < one.indexOf(b), other.indexOf(a) < other.indexOf(b));
        }
      }
    });

    it(`each of ${sides} sides follows each other one equally often`, () => {
      const rounds = sides % 2 ? 2 * sides : sides;
      const followed = {};
      for (let round = 0; round < rounds; round += 1) {
        const order = turns(sides, round);
        for (let at = 1; at < sides; at += 1) followed[[order[at - 1], order[at]]] = (followed[[order[at - 1], order[at]]] ?? 0) + 1;
      }
      assert.equal(Object.keys(followed).length, sides * (sides - 1));
      assert.deepEqual(new Set(Object.values(followed)), new Set([rounds / sides]));
    });
  }
});

describe('a goal', () => {
  const between = (low, high) => ({ ...sample('ratio', upTo(6)), interval: [low, high] });

  it('a goal is missed if the whole interval is on the wrong side', () => {
    assert.equal(verdict(between(0.8, 0.909), ['≥', 0.91]), 'missed');
    assert.equal(verdict(between(0.8, 0.91), ['≥', 0.91]), 'undecided');
    assert.equal(verdict(between(1.01, 1.2), ['≤', 1]), 'missed');
    assert.equal(verdict(between(1, 1.2), ['≤', 1]), 'undecided');
  });

  it('a goal is reached if the whole interval is on the right side', () => {
    assert.equal(verdict(between(0.91, 1), ['≥', 0.91]), 'reached');
    assert.equal(verdict(between(0.8, 1), ['≤', 1]), 'reached');
  });

  it('a goal is undecided with too few rounds for an interval', () => {
    assert.equal(verdict(sample('ratio', [2, 2, 2, 2, 2]), ['≥', 1]), 'undecided');
  });

  it('a goal of a count is compared with the worst round', () => {
    assert.equal(verdict(count('calls', [1, 1, 1]), ['=', 1]), 'reached');
    assert.equal(verdict(count('calls', [1, 2, 1]), ['=', 1]), 'missed');
    assert.equal(verdict(count('reloads', [0]), ['=', 0]), 'reached');
  });
});

it('the median of an even number of rounds is in the middle of two', () => {
  assert.equal(median([10, 2, 9, 1]), 5.5);
  assert.equal(median([10, 2, 1]), 2);
});
