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
    """Looks for an order of all calls; raises Undecided when more than `limit` steps would be needed."""
    seen = {call.value for call in calls if call.kind == "read"}
    seen.update(name for call in calls if call.outcome != FAILED for name in call.expected)
    # Writes of unknown outcome that nobody ever saw, and no other one needed, are left out first. They can explain nothing but a condition that failed.
    few = [call for call in calls if call.outcome != UNKNOWN or not call.kind.startswith("write") or call.value in seen]
    verdict = search(few, initial, limit)
    if verdict.is_linearizable or len(few) == len(calls) or all(call.outcome != FAILED for call in calls):
        return verdict
    return search(calls, initial, limit)


def likeness(calls):
    """For each call of unknown outcome: those with the same likeness do the same to a register, and nobody tells them apart."""
    named = {call.value for call in calls if call.kind == "read"}
    named.update(name for call in calls for name in call.expected)
    kinds = {}
    for number, call in enumerate(calls):
        if call.outcome == UNKNOWN:
            value = call.value if call.value in named else call.value is None
            kinds[number] = (call.kind, value, call.expected)
    return kinds


def search(calls, initial, limit):
    """Follows the calls in time. What keeps it short although calls of unknown outcome stay under way for ever: in an order
    with as few of them as possible each is followed at once by a call that needs it, one that looks or has a condition (else it could
    be left out, or come later); of those that are alike the first is taken first; and of two ways to the same state the one
    that used fewer of them can do all that the other one can.
    """
    calls = sorted(calls, key=lambda call: call.start)
    alike = likeness(calls)
    events = []
    for number, call in enumerate(calls):
        events.append((call.start, 0, number))
        if call.outcome != UNKNOWN:
            events.append((call.end, 1, number))
    # At the same moment starts come first: the calls then count as overlapping.
    events.sort()
    lookers, changers, unknown = {}, {}, {}
    unknown_bits = 0
    # Each is a state and the set (as bits) of calls under way that have already taken effect.
    found = {(initial, 0)}
    steps = 0
    for _, is_end, number in events:
        call, bit = calls[number], 1 << number
        if not is_end:
            if call.outcome == UNKNOWN:
                unknown[number] = call
                unknown_bits |= bit
            else:
                (lookers if only_looks(call) else changers)[number] = call
            continue
        # With it, whether the last call was one of unknown outcome that nobody has needed yet.
        done, waiting = set(), [(*way, False) for way in found]
        known = set(waiting)
        while waiting:
            steps += 1
            if steps > limit:
                raise Undecided(f"{len(calls)} calls, {len(lookers) + len(changers) + len(unknown)} under way")
            state, effected, is_unneeded = waiting.pop()
            # What only looks changes nothing, so wherever it fits it may be taken at once.
            for other, looker in lookers.items():
                if not effected >> other & 1 and step(looker, state)[0]:
                    effected |= 1 << other
                    is_unneeded = False
            if effected & bit:
                done.add((state, effected & ~bit))
                continue
            next_ones = []
            for other, changer in changers.items():
                if effected >> other & 1 or (is_unneeded and is_blind(changer)):
                    continue
                fits, after = step(changer, state)
                if fits:
                    next_ones.append((after, effected | 1 << other, False))
            taken = set()
            for other, changer in unknown.items():
                if effected >> other & 1 or alike[other] in taken:
                    continue
                taken.add(alike[other])
                fits, after = step(changer, state)
                if not fits or (is_unneeded and is_blind(changer)):
                    continue
                next_one = (after, effected | 1 << other, True)
                if is_needed(after, next_one[1], lookers, changers, unknown):
                    next_ones.append(next_one)
            for next_one in next_ones:
                if next_one not in known:
                    known.add(next_one)
                    waiting.append(next_one)
        if not done:
            place = calls.index(call)
            near = [other for other in calls if other.end >= call.start - 1e-9][: place + 6]
            near = [other for other in near if other.start <= call.end]
            before = [other for other in calls if other.end < call.start][-12:]
            return Verdict(False, call, before + near)
        found = without_wasteful(done, unknown_bits)
        (lookers if only_looks(call) else changers).pop(number)
    return Verdict(True)


def is_blind(call):
    """Does it take effect whatever there is?"""
    return call.kind in ("write", "remove") and call.outcome != FAILED


def is_needed(state, effected, lookers, changers, unknown):
    """Is there a call under way that this state lets take effect, and that would have noticed another one?"""
    for group in (lookers, changers, unknown):
        for number, call in group.items():
            if not effected >> number & 1 and not is_blind(call) and step(call, state)[0]:
                return True
    return False


def without_wasteful(ways, unknown_bits):
    """The ways without those to which there is another one that used only some of their calls of unknown outcome."""
    groups = {}
    for state, effected in ways:
        groups.setdefault((state, effected & ~unknown_bits), []).append(effected & unknown_bits)
    kept = set()
    for (state, sure), used in groups.items():
        frugal = []
        for bits in sorted(set(used), key=int.bit_count):
            if not any(bits & fewer == fewer for fewer in frugal):
                frugal.append(bits)
                kept.add((state, sure | bits))
    return kept
