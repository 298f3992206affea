"""What must hold of a round when its clients have stopped and everything is whole again."""

import linear
import s3
from linear import OK, UNKNOWN, Call
from workload import META, resolve


def finish(campaign, record):
    """Reads everything of a round a last time and returns what is wrong, as texts; remembers what was read."""
    problems = list(record.problems)
    judge = Judge(campaign, record, problems)
    judge.read_registers()
    judge.check_order()
    judge.check_sets()
    judge.check_versions()
    return problems


# Steps that the search for an order of one key's calls may take: at first, and when that was not enough.
LIMIT, LONG_LIMIT = 400_000, 2_000_000


class Judge:
    def __init__(self, campaign, record, problems):
        self.campaign, self.record, self.problems = campaign, record, problems
        self.worker = campaign.reader(record)
        self.client = self.worker.client

    def problem(self, text):
        self.problems.append(text)

    def read_registers(self):
        for place in self.record.registers():
            before = len(self.record.problems)
            if not self.worker.read(place):
                self.problem(f"{'/'.join(place)} can not be read although everything is whole")
            self.problems += self.record.problems[before:]

    def check_order(self):
        for place, calls in sorted(self.record.calls.items()):
            if not place[1].startswith("reg/"):
                continue
            calls = [resolve(call) for call in calls]
            self.campaign.checked += len(calls)
            self.campaign.histories += 1
            # What was read at the end must be there later, whatever came before.
            self.campaign.ledger[place] = (calls[-1].value, self.record)
            verdict = self.order(place, calls)
            if verdict is not None and not verdict.is_linearizable:
                self.problem(f"{'/'.join(place)}: not linearizable: {verdict}")

    def order(self, place, calls):
        """The verdict; None when there are too many calls of unknown outcome at once to tell. Then nothing is known of this key:
        that is no violation, and no success either."""
        for limit in (LIMIT, LONG_LIMIT):
            try:
                return linear.check(calls, limit=limit)
            except linear.Undecided as error:
                trouble = error
        self.campaign.undecided.append(f"{'/'.join(place)}: {trouble}")
        return None

    def check_sets(self):
        for bucket in ("plain", "kept"):
            listed = set(s3.list_keys(self.client, bucket, f"set/{self.record.number}/"))
            due = {key for (where, key) in self.record.acknowledged if where == bucket}
            known = {key for (where, key) in self.record.tried if where == bucket}
            for key in sorted(due - listed):
                self.problem(f"lost: {bucket}/{key} was acknowledged and is not listed")
            for key in sorted(listed - known):
                self.problem(f"{bucket}/{key} is listed and nobody put it")
            for key in sorted(listed & known):
                self.read_written((bucket, key), self.record.tried[(bucket, key)])
            self.campaign.acknowledged += len(due)

    def read_written(self, place, name, items=()):
        answer = self.worker.ask("GET", place, items)[2]
        if answer is None or answer.status != 200:
            self.problem(f"lost: {'/'.join(place)} {items} ({name}) can not be read: {answer!r}")
            return
        before = len(self.record.problems)
        found = self.worker.verify_body(place, answer)
        self.problems += self.record.problems[before:]
        if name is not None and found != name:
            self.problem(f"{'/'.join(place)} {items} is {found} instead of {name}")
        return found

    def check_versions(self):
        record = self.record
        listed = {}
        for prefix in (f"reg/{record.number}/", f"ver/{record.number}/"):
            for key, version, is_marker, etag, date in s3.list_versions(self.client, "kept", prefix):
                listed.setdefault(("kept", key), []).append((version, is_marker, etag, date))
        places = {place for place in record.attempted if place[0] == "kept"} | set(listed)
        for place in sorted(places):
            self.check_history(place, listed.get(place, []))

    def check_history(self, place, history):
        record, shown = self.record, "/".join(place)
        ids = record.versions.get(place, {})
        names = {version: name for name, version in ids.items()}
        if len(names) != len(ids):
            self.problem(f"{shown}: a version id was given out twice")
        attempted = record.attempted.get(place, {})
        removed = {version: outcome for (*where, version), outcome in record.removals.items() if tuple(where) == place}
        present, order = set(), []
        for version, is_marker, _, _ in history:
            if version in present:
                self.problem(f"{shown}: version {version} is listed twice")
            present.add(version)
            if is_marker:
                continue
            if removed.get(version) == OK:
                self.problem(f"{shown}: version {version} was removed and is listed")
            found = self.read_written(place, names.get(version), [("versionId", version)])
            if found is None:
                continue
            order.append(found)
            if found not in attempted:
                self.problem(f"{shown}: version {version} is {found}, which nobody wrote there")
            if found in record.refused:
                self.problem(f"{shown}: version {version} is {found}, which was refused")
            if found in ids and ids[found] != version:
                self.problem(f"{shown}: {found} is there as {version}, and was acknowledged as {ids[found]}")
        if len(set(order)) != len(order):
            self.problem(f"{shown}: one write is there as two versions: {order}")
        for name, version in ids.items():
            if version not in present and version not in removed:
                self.problem(f"lost: {shown}: version {version} ({name}) was acknowledged and is not listed")
        self.campaign.acknowledged += len(ids)
        # Newest first: what was acknowledged before another one began comes after it in the list.
        started_last = float("-inf")
        for name in reversed(order):
            start, end = attempted.get(name, (float("-inf"), float("inf")))
            if end < started_last:
                self.problem(f"{shown}: {name} is newer than a version that began after it was acknowledged")
            started_last = max(started_last, start)
        dates = [date for _, _, _, date in reversed(history)]
        if dates != sorted(dates):
            self.problem(f"{shown}: the dates of its versions go back: {dates}")
        sure, unsure = record.markers.get(place, (0, 0))
        markers = sum(is_marker for _, is_marker, _, _ in history)
        if not sure <= markers <= sure + unsure:
            self.problem(f"{shown}: {markers} delete markers for {sure} answered deletes and {unsure} unanswered ones")


def again(campaign, record):
    """Whatever a round has left is still as it was at its end: registers, sets and versions."""
    problems = reread(campaign, record)
    judge, before = Judge(campaign, record, problems), campaign.acknowledged
    judge.check_sets()
    judge.check_versions()
    campaign.acknowledged = before
    judge.client.close()
    return problems


def reread(campaign, only=None):
    """Everything that earlier rounds left, or one of them, is still as it was at their end."""
    problems = []
    for place, (value, record) in sorted(campaign.ledger.items(), key=lambda entry: entry[0]):
        if only not in (None, record):
            continue
        worker = campaign.reader(record)
        answer = worker.ask("GET", place)[2]
        found = None if answer is not None and answer.status == 404 else answer and answer[META]
        if answer is None or answer.status not in (200, 404) or found != value:
            problems.append(f"lost later: {'/'.join(place)} is {found} instead of {value}: {answer!r}")
    return problems


__all__ = ["Call", "UNKNOWN", "again", "finish", "reread"]
