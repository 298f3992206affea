"""Is what clients saw of one key explained by some order in which each call took effect at one moment between its start and
its answer? (Linearizability: Herlihy and Wing; the search is Wing and Gong's, as improved by Lowe: at each answer the calls
under way are tried in every order, and equal states met again are dropped.)

The key is a register that holds one write's name, or None when there is nothing. A call whose outcome is unknown may take
effect at any time after its start, also long after, or never.
"""

import dataclasses
import math

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"
FOREVER = math.inf


@dataclasses.dataclass(frozen=True)
class Call:
    """One call. `kind` is

    read        `value` is what was read: the name of a write, or None
    write       `value` is the name of the write
    write-if    a write for which the register had to hold one of the names in `expected`
    write-new   a write for which the register had to be empty
    remove      leaves nothing
    remove-if   the same if the register holds one of the names in `expected`

    A call that FAILED is one that was refused because of its condition: the condition did not hold at that moment.
    Reads without an answer, and writes that were refused before they could take effect, are no calls at all.
    """

    start: float
    end: float
    kind: str
    value: str | None = None
    outcome: str = OK
    expected: frozenset = frozenset()
    who: str = ""

    def __str__(self):
        end = "…" if self.end == FOREVER else f"{self.end:.6f}"
        condition = f" if {sorted(self.expected)}" if self.expected else ""
        return f"[{self.start:.6f} {end}] {self.who} {self.kind} {self.value}{condition}: {self.outcome}"


class Undecided(Exception):
    """There are too many orders to try."""


def holds(call, state):
    """Does the condition of a call hold in this state?"""
    if call.kind in ("write-if", "remove-if"):
        return state in call.expected
    return state is None if call.kind == "write-new" else True


def step(call, state):
    """(True, the state after the call), or (False, None) if the call can not take effect in this state."""
    if call.kind == "read":
        return state == call.value, state
    if call.outcome == FAILED:
        return not holds(call, state), state
    if not holds(call, state):
        return False, None
    return True, None if call.kind.startswith("remove") else call.value


def only_looks(call):
    return call.kind == "read" or call.outcome == FAILED


@dataclasses.dataclass
class Verdict:
    is_linearizable: bool
    # The call for whose answer there is no order, and those around it.
    at: Call | None = None
    around: list = dataclasses.field(default_factory=list)

    def __str__(self):
        if self.is_linearizable:
            return "linearizable"
        lines = "\n".join(f"{'->' if call is self.at else '  '} {call}" for call in self.around)
        return f"no order explains the marked call:\n{lines}"


def check(calls, initial=None, limit=400_000):
    """Looks for an order of all calls."""
    seen = {call.value for call in calls if call.kind == "read"}
    seen.update(name for call in calls if call.outcome != FAILED for name in call.expected)
    # Writes of unknown outcome that nobody ever saw, and no other one needed, are left out first. They can explain nothing but a condition that failed.
    few = [call for call in calls if call.outcome != UNKNOWN or not call.kind.startswith("write") or call.value in seen]
    verdict = search(few, initial, limit)
    if verdict.is_linearizable or len(few) == len(calls) or all(call.outcome != FAILED for call in calls):
        return verdict
    return search(calls, initial, limit)


def search(calls, initial, limit):
    calls = sorted(calls, key=lambda call: call.start)
    events = []
    for number, call in enumerate(calls):
        events.append((call.start, 0, number))
        if call.outcome != UNKNOWN:
            events.append((call.end, 1, number))
    # At the same moment starts come first: the calls then count as overlapping.
    events.sort()
    under_way = {}
    # Each is a state and the set (as bits) of calls under way that have already taken effect.
    found = {(initial, 0)}
    steps = 0
    for _, is_end, number in events:
        if not is_end:
            under_way[number] = calls[number]
            continue
        bit = 1 << number
        done, waiting, known = set(), list(found), set(found)
        while waiting:
            steps += 1
            if steps > limit:
                raise Undecided(f"{len(calls)} calls, {len(under_way)} under way")
            state, effected = waiting.pop()
            # What only looks changes nothing, so wherever it fits it may be taken at once.
            for other, call in under_way.items():
                if only_looks(call) and not effected >> other & 1 and step(call, state)[0]:
                    effected |= 1 << other
            if effected & bit:
                done.add((state, effected & ~bit))
                continue
            for other, call in under_way.items():
                if effected >> other & 1 or only_looks(call):
                    continue
                fits, after = step(call, state)
                if fits:
                    next_one = (after, effected | 1 << other)
                    if next_one not in known:
                        known.add(next_one)
                        waiting.append(next_one)
        if not done:
            place = calls.index(calls[number])
            near = [call for call in calls if call.end >= calls[number].start - 1e-9][: place + 6]
            near = [call for call in near if call.start <= calls[number].end]
            before = [call for call in calls if call.end < calls[number].start][-12:]
            return Verdict(False, calls[number], before + near)
        found = done
        del under_way[number]
    return Verdict(True)
