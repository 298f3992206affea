"""The checker itself: histories that are known to be good or bad, and small ones at random against a search of all orders."""

import itertools
import os
import random
import unittest

import judge
import linear
from linear import FAILED, FOREVER, OK, UNKNOWN, Call

SEED = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(1 << 32)))


def read(start, end, value):
    return Call(start, end, "read", value)


def write(start, end, value, outcome=OK):
    return Call(start, FOREVER if outcome == UNKNOWN else end, "write", value, outcome)


def write_if(start, end, value, expected, outcome=OK):
    return Call(start, FOREVER if outcome == UNKNOWN else end, "write-if", value, outcome, frozenset(expected))


def write_new(start, end, value, outcome=OK):
    return Call(start, FOREVER if outcome == UNKNOWN else end, "write-new", value, outcome)


def remove(start, end, outcome=OK):
    return Call(start, FOREVER if outcome == UNKNOWN else end, "remove", None, outcome)


GOOD = {
    "nothing": [],
    "one after the other": [write(0, 1, "a"), read(2, 3, "a"), write(4, 5, "b"), read(6, 7, "b")],
    "a read beside a write sees either": [write(0, 1, "a"), write(2, 9, "b"), read(3, 4, "a"), read(5, 6, "b")],
    "two writes side by side, read in one order": [write(0, 9, "a"), write(0, 9, "b"), read(3, 4, "b"), read(5, 6, "a")],
    "an unknown write that never was": [write(0, 1, "a"), write(2, 3, "b", UNKNOWN), read(4, 5, "a")],
    "an unknown write that was": [write(0, 1, "a"), write(2, 3, "b", UNKNOWN), read(4, 5, "b")],
    "an unknown write that comes late": [
        write(0, 1, "a"), write(2, 3, "b", UNKNOWN), read(4, 5, "a"), write(6, 7, "c"), read(8, 9, "b"),
    ],
    "an unknown removal": [write(0, 1, "a"), remove(2, 3, UNKNOWN), read(4, 5, None)],
    "a condition that failed because of an unseen unknown write": [
        write(0, 1, "a"), write(2, 3, "b", UNKNOWN), write_if(4, 5, "c", "a", FAILED), remove(6, 7), read(8, 9, None),
    ],
    "an unknown write that only another one needed": [
        write_new(0, 1, "a", UNKNOWN), write_if(2, 3, "b", "a", UNKNOWN), read(4, 5, "b"),
    ],
    "one of two conditional writes": [
        write(0, 1, "a"), write_if(2, 5, "b", "a"), write_if(2, 5, "c", "a", FAILED), read(6, 7, "b"),
    ],
    "one of two that make a key": [write_new(0, 4, "a"), write_new(1, 5, "b", FAILED), read(6, 7, "a")],
    "made again after it was removed": [write_new(0, 1, "a"), remove(2, 3), write_new(4, 5, "b"), read(6, 7, "b")],
}

BAD = {
    "a read of what was replaced": [write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a")],
    "an answered write that is gone": [write(0, 1, "a"), read(2, 3, None)],
    "a read of what nobody wrote": [write(0, 1, "a"), read(2, 3, "b")],
    "a removed one is back": [write(0, 1, "a"), remove(2, 3), read(4, 5, "a")],
    "reads go back": [write(0, 1, "a"), write(2, 9, "b"), read(3, 4, "b"), read(5, 6, "a")],
    "read before it was written": [read(0, 1, "a"), write(2, 3, "a")],
    "two conditional writes on the same": [write(0, 1, "a"), write_if(2, 5, "b", "a"), write_if(2, 5, "c", "a")],
    "two that make the same key": [write_new(0, 4, "a"), write_new(1, 5, "b")],
    "a condition that held was refused": [write(0, 1, "a"), write_if(2, 3, "b", "a", FAILED)],
    "an unknown write in two states": [
        write(0, 1, "a"), write(2, 3, "b", UNKNOWN), read(4, 5, "b"), write(6, 7, "c"), read(8, 9, "c"), read(10, 11, "b"),
    ],
    "a refused write that is there": [write(0, 1, "a"), write_if(2, 3, "b", "x", FAILED), read(4, 5, "b")],
    "a lost update": [
        write(0, 1, "a"), write_if(2, 3, "b", "a"), write_if(4, 5, "c", "a"), read(6, 7, "c"),
    ],
}


def by_every_order(calls):
    """The slow and plain way, for a few calls."""
    sure = [call for call in calls if call.outcome != UNKNOWN]
    unsure = [call for call in calls if call.outcome == UNKNOWN]
    for count in range(len(unsure) + 1):
        for chosen in itertools.combinations(unsure, count):
            for order in itertools.permutations([*sure, *chosen]):
                latest, state, fits = -1.0, None, True
                for call in order:
                    latest = max(latest, call.start)
                    if latest > call.end:
                        fits = False
                        break
                    fits, state = linear.step(call, state)
                    if not fits:
                        break
                if fits:
                    return True
    return False


def random_history(chance):
    """Calls of a few clients on a register that sometimes lies."""
    calls, names = [], iter("abcdefgh")
    written = []
    for client in range(chance.randint(1, 3)):
        now = chance.random()
        for _ in range(chance.randint(1, 2)):
            start = now + chance.random()
            end = start + chance.random() * 2
            now = end
            kind = chance.choice(("read", "write", "write-if", "write-new", "remove", "read"))
            if kind == "read":
                calls.append(read(start, end, chance.choice([None, *written, *written])))
                continue
            outcome = chance.choice((OK, OK, UNKNOWN) if kind in ("write", "remove") else (OK, OK, FAILED, UNKNOWN))
            end = FOREVER if outcome == UNKNOWN else end
            value = None
            if kind != "remove":
                value = next(names)
                written.append(value)
            expected = frozenset(chance.sample(written, 1)) if kind == "write-if" else frozenset()
            calls.append(Call(start, end, kind, value, outcome, expected))
    return calls


def unanswered_history(chance, clients, each):
    """Calls on a register that never lies, but leaves a third of what changes it unanswered."""
    calls, plan = [], []
    for client in range(clients):
        now = chance.random()
        for _ in range(each):
            start = now + chance.random() * 0.3
            now = end = start + chance.random() * 1.5
            kind = chance.choices(("read", "write", "write-if", "write-new", "remove"), (35, 20, 14, 8, 9))[0]
            is_unknown = kind != "read" and chance.random() < 0.33
            moment = chance.uniform(start, end)
            if is_unknown:
                moment = chance.choice((moment, moment + chance.random() * 20, FOREVER))
            plan.append((moment, start, end, kind, is_unknown))
    state, recent = None, ["nothing"]
    for number, (moment, start, end, kind, is_unknown) in enumerate(sorted(plan)):
        if kind == "read":
            calls.append(read(start, end, state))
            continue
        value = f"w{number}" if kind != "remove" else None
        expected = frozenset(chance.sample(recent[-4:], 1)) if kind == "write-if" else frozenset()
        call = Call(start, end, kind, value, OK, expected)
        is_done = linear.holds(call, state)
        if is_done and moment < FOREVER:
            state = value
        if value:
            recent.append(value)
        outcome = UNKNOWN if is_unknown else OK if is_done else FAILED
        calls.append(Call(start, FOREVER if is_unknown else end, kind, value, outcome, expected))
    return calls


class Checker(unittest.TestCase):
    def test_good_histories_pass(self):
        for name, calls in GOOD.items():
            with self.subTest(name):
                self.assertTrue(linear.check(calls).is_linearizable)

    def test_bad_histories_are_found(self):
        for name, calls in BAD.items():
            with self.subTest(name):
                verdict = linear.check(calls)
                self.assertFalse(verdict.is_linearizable)
                self.assertIn("->", str(verdict))

    def test_small_histories_are_judged_as_by_trying_every_order(self):
        chance, good = random.Random(SEED), 0
        print(f"checker: HOLDFAST_SEED={SEED}", flush=True)
        for number in range(3000):
            calls = random_history(chance)
            expected = by_every_order(calls)
            good += expected
            self.assertEqual(linear.check(calls).is_linearizable, expected, [str(call) for call in calls])
        self.assertTrue(300 < good < 2700, f"{good} of 3000 were good: too one-sided to tell anything")

    def test_many_calls_of_unknown_outcome_are_no_reason_to_give_up(self):
        """Histories of a register of which a third of the changes is never answered, and happens at once, late or never."""
        for number in range(8):
            chance = random.Random(f"{SEED}/{number}")
            calls = unanswered_history(chance, clients=8, each=25)
            self.assertTrue(linear.check(calls, limit=100_000).is_linearizable)
            reads = [index for index, call in enumerate(calls) if call.kind == "read"]
            wrong = reads[len(reads) * 3 // 4]
            calls[wrong] = read(calls[wrong].start, calls[wrong].end, "nobody's")
            self.assertFalse(linear.check(calls, limit=100_000).is_linearizable)

    def test_what_is_not_decided_is_not_called_wrong_or_right(self):
        class Campaign:
            undecided, histories, checked, ledger = [], 0, 0, {}

        calls = [write(0, 9, "a"), write(0, 9, "b"), write(0, 9, "c"), read(10, 11, "d")]
        judged = judge.Judge.__new__(judge.Judge)
        judged.campaign, judged.problems = Campaign(), []
        limits = judge.LIMIT, judge.LONG_LIMIT
        try:
            judge.LIMIT, judge.LONG_LIMIT = 2, 3
            self.assertIsNone(judged.order(("plain", "reg/1/0"), calls))
            self.assertEqual((judged.problems, len(judged.campaign.undecided)), ([], 1))
            # The second, longer try decides.
            judge.LIMIT, judge.LONG_LIMIT = 2, 100
            self.assertFalse(judged.order(("plain", "reg/1/0"), calls).is_linearizable)
            self.assertEqual(len(judged.campaign.undecided), 1)
        finally:
            judge.LIMIT, judge.LONG_LIMIT = limits

    def test_long_histories_are_judged_in_time(self):
        """A register under many clients is good; with one read put wrong it is bad."""
        chance = random.Random(SEED)
        state, now, calls = None, 0.0, []
        free_at = [0.0] * 10
        for number in range(3000):
            client = min(range(10), key=lambda index: free_at[index])
            now = max(now, free_at[client]) + chance.random() * 0.1
            start, end = now - chance.random() * 0.05, now + chance.random()
            start = max(start, free_at[client])
            free_at[client] = end
            if chance.random() < 0.5:
                calls.append(read(start, end, state))
            elif chance.random() < 0.05:
                calls.append(write(start, end, f"{number}", UNKNOWN))
                if chance.random() < 0.5:
                    state = f"{number}"
            else:
                state = f"{number}"
                calls.append(write(start, end, state))
        self.assertTrue(linear.check(calls).is_linearizable)
        place = max(index for index, call in enumerate(calls) if call.kind == "read")
        early = next(call.value for call in calls if call.kind == "write" and call.outcome == OK)
        calls[place] = read(calls[place].start, calls[place].end, early)
        self.assertFalse(linear.check(calls).is_linearizable)


if __name__ == "__main__":
    unittest.main()
