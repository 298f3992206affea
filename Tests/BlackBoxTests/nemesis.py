#!/usr/bin/env python3
"""Clients at work on a server that is killed and started again and again, while its disks, its clock and its catalog are
harmed; then everything that clients were told is checked.

    nemesis.py --cycles 50 [--seed N] [--clients 8] [--only KIND] [--keep]
    nemesis.py --hours 8

Exit code 0: nothing was violated. 1: something was. 3: nothing that could be judged was, but some keys had too many calls of
unknown outcome to find an order of them; how many of how many is printed.

A cycle ends with kill -9 (now and then SIGTERM) and a new start. Cycles come in rounds. Each round has keys of its own; at its
end everything is healed, `verify`, a second scrub and `fsck --deep` must be clean, and the record of what clients asked
and were told is judged: registers must be linearizable, nothing that was acknowledged may be lost, no byte may be wrong (see
workload.py, judge.py). Then an old round is taken out of the store, all but the first and the last few, and garbage collection
gives its bytes back: what stays is as it was, and a campaign may go on for any time.

The budget of faults, within which every violation is a bug:
    - damage rounds (bits flipped, segments removed, an empty directory in a disk's place, EIO, ENOSPC): one volume per round
    - absence rounds (EIO, ENOSPC, taken away): one volume after the other, the next when a server started with all of them has
      made the store whole again by itself; or two at once for a moment, until the next start
    - in each: SIGSTOP, jumps of the wall clock, the catalog's index removed, cut or full of flipped bits between two lives
The schedule follows from the seed. When exactly a fault meets which request does not: repeat a failing seed several times.
"""

import argparse
import collections
import itertools
import json
import random
import sys
import threading
import time

import judge
import s3
import workload
from victim import Store, Violation

# What a campaign ends with: exit codes.
HELD, VIOLATED, UNDECIDED = 0, 1, 3
CYCLES_PER_ROUND = 8
WHOLE_SECONDS = 60
# While the store becomes whole, clients go on in so many rounds, and later for so many requests.
LOADED_ROUNDS, REQUESTS_BEFORE_REST = 3, 1000
# The store keeps 64 MiB of each volume for deletes and repairs: this is little more.
ROOM_MEGABYTES = 80
# Rounds whose objects stay in the store, with the first one.
ROUNDS_KEPT = 3


class Campaign:
    def __init__(self, seed, clients, without=(), megabytes=None):
        self.seed, self.clients, self.without = seed, clients, without
        self.chance = random.Random(seed)
        self.store = Store(megabytes)
        self.is_small = megabytes is not None
        self.contents = workload.Contents()
        self.done = 0
        self.refusals = collections.Counter()
        self.faults = collections.Counter()
        self.counts = collections.Counter()
        self.checked = self.histories = self.acknowledged = 0
        # Keys whose calls the judge could not order: see Judge.order.
        self.undecided = []
        self.ledger = {}
        # Judged rounds whose objects are in the store, oldest first; the first one stays to the end.
        self.kept = []
        self.kills = 0
        # Set while clients are to let the store come after them.
        self.rests = threading.Event()
        self.lock = threading.Lock()
        self.slowest_start = self.slowest_catch_up = 0.0

    # What workers tell

    def did_something(self):
        with self.lock:
            self.done += 1

    def was_refused(self, answer):
        with self.lock:
            self.refusals[f"{answer.status} {answer.code}"] += 1

    def content_with(self, record, etag):
        """The bytes that have an ETag: those of a write that some register was given."""
        with record.lock:
            found = next((name for name, told in record.etags.items() if told == etag and record.contents.get(name)), None)
            content = record.contents[found] if found else None
        return content and b"".join(self.contents.of(part) for part in content.split("+"))

    def reader(self, record):
        return workload.Worker(self, -1, record, self.seed)

    # Running

    def say(self, text):
        print(text, flush=True)

    def start(self):
        begin = time.monotonic()
        self.store.start()
        self.slowest_start = max(self.slowest_start, time.monotonic() - begin)

    def prepare(self):
        self.start()
        client = self.reader(workload.Round(0)).client
        for bucket in ("plain", "kept"):
            answer = client.call("PUT", f"/{bucket}")
            if answer.status != 200:
                raise Violation(f"no bucket: {answer!r}")
        enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        answer = client.call("PUT", "/kept", [("versioning", "")], (), enabled)
        if answer.status != 200:
            raise Violation(f"no versions: {answer!r}")
        client.close()
        self.store.leave_room(ROOM_MEGABYTES)

    def wait_for_work(self, count, workers, seconds=20):
        """Waits until clients have done so much more, or for some seconds when they can not."""
        target, end = self.done + count, time.monotonic() + seconds
        while self.done < target and time.monotonic() < end:
            if any(worker.failure for worker in workers):
                raise next(worker.failure for worker in workers if worker.failure)
            time.sleep(0.005)

    def round(self, number, cycles, only=None):
        chance = random.Random(f"{self.seed}/round {number}")
        # A full disk has no room for copies of what was damaged.
        damages = chance.random() < 0.5 and not self.is_small
        harm = Harm(self, chance, damages, only)
        self.say(f"round {number}: {'damage to volume ' + str(harm.victim + 1) if damages else 'absence'}")
        record = workload.Round(number)
        workers = [workload.Worker(self, index, record, self.seed) for index in range(self.clients)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(cycles):
                self.cycle(number, chance, harm, workers)
        finally:
            for worker in workers:
                worker.stopping.set()
        for worker in workers:
            worker.join(120)
            if worker.is_alive():
                raise Violation("a client still waits for an answer after two minutes")
            if worker.failure:
                raise worker.failure
        self.settle()
        problems = judge.finish(self, record)
        self.counts.update(record.counts)
        if problems:
            raise Violation(f"round {number}: {len(problems)} problems\n" + "\n".join(problems[:40]))
        self.kept.append(record)
        # A small disk is to be full.
        while not self.is_small and len(self.kept) > 1 + ROUNDS_KEPT:
            old = self.kept.pop(1)
            if problems := judge.again(self, old):
                raise Violation("\n".join(problems[:40]))
            try:
                self.retire(old)
            except (s3.NoAnswer, s3.NotSent) as error:
                raise Violation(f"round {old.number} can not be taken out: {error}") from None

    def retire(self, record):
        """Takes all of a round out of the store; garbage collection finds its bytes at the end of the next round."""
        client = self.reader(record).client
        prefixes = [f"{kind}/{record.number}/" for kind in ("reg", "set", "ver")]
        for bucket, prefix in itertools.product(("plain", "kept"), prefixes):
            for key, upload in s3.list_uploads(client, bucket, prefix):
                s3.expect(client.call("DELETE", f"/{bucket}/{key}", [("uploadId", upload)]), 204)
            versions = [(key, version) for key, version, *_ in s3.list_versions(client, bucket, prefix)]
            s3.remove_versions(client, bucket, versions)
            if left := list(s3.list_versions(client, bucket, prefix)):
                raise Violation(f"{len(left)} versions of {bucket}/{prefix} were removed and are listed: {left[:3]}")
            self.counts["versions taken out"] += len(versions)
        client.close()
        for place in record.registers():
            self.ledger.pop(place, None)

    def cycle(self, number, chance, harm, workers):
        told = []
        for _ in range(chance.choice((0, 1, 1, 1, 2))):
            self.wait_for_work(chance.randrange(5, 60), workers)
            told.append(harm.live())
        self.wait_for_work(chance.randrange(5, 80), workers)
        time.sleep(chance.random() * 0.02)
        gently = chance.random() < 0.1
        if gently:
            self.store.end()
        else:
            self.store.kill()
            self.kills += 1
        told.append("SIGTERM" if gently else "kill -9")
        becomes_whole = harm.must_become_whole or (not harm.damages and chance.random() < 0.5)
        if becomes_whole:
            self.store.heal_all()
            told.append("all volumes back")
        elif chance.random() < 0.6:
            told.append(harm.at_rest())
        self.say(f"    {', '.join(filter(None, told))}")
        self.start()
        if becomes_whole:
            self.wait_until_whole(number)
            harm.take_another()

    def verify_small(self):
        """A copy may be missing on a disk that has no room for it; nothing else, and no version is lost."""
        done = self.store.run("verify", "--json", check=False)
        report = json.loads(done.stdout)
        wrong = [finding for finding in report["findings"] if "missing" not in finding["problem"]]
        if done.returncode not in (0, 6) or wrong or report["versionsLost"] or report["copiesDamaged"]:
            raise Violation(f"verify on full disks: exit code {done.returncode}\n{done.stdout[-3000:]}")

    def check_small(self, status):
        """A volume on a small disk may be full, and behind; it is nothing else."""
        for volume in json.loads(status.stdout)["volumes"]:
            self.counts[f"volumes {volume['state']}"] += 1
            if volume["state"] not in ("healthy", "full", "behind", "catchingUp"):
                raise Violation(f"on a full disk a volume is {volume['state']}: {status.stdout[-3000:]}")

    def wait_until_whole(self, number):
        """A server that has all its volumes, undamaged, makes the store whole without being told to."""
        if self.is_small:
            return
        begin, done = time.monotonic(), self.done
        try:
            while True:
                status = self.store.run("status", "--check", "--json", check=False)
                if status.returncode == 0:
                    break
                if time.monotonic() > begin + WHOLE_SECONDS:
                    raise Violation(f"the store is not whole after {WHOLE_SECONDS} s: {status.stdout}{self.store.log_text()}")
                # In the first rounds it must come after clients that go on; later they only made the store, and each look
                # at all of it, larger.
                if number > LOADED_ROUNDS and self.done > done + REQUESTS_BEFORE_REST:
                    self.rests.set()
                time.sleep(0.02)
        finally:
            self.rests.clear()
        self.slowest_catch_up = max(self.slowest_catch_up, time.monotonic() - begin)

    def settle(self):
        """Heals everything; the store must find and repair all damage, and be whole."""
        store = self.store
        store.check_alive()
        store.kill()
        self.kills += 1
        store.heal_all()
        store.move_clock(0)
        if self.is_small:
            self.verify_small()
        else:
            store.run("verify", "--json")
            store.run("verify", "--no-repair", "--json")
            self.scrub()
            self.collect()
        self.check_files()
        if not self.is_small:
            store.run("verify", "--no-repair", "--json")
        status = store.run("status", "--check", "--json", check=False)
        if self.is_small:
            self.check_small(status)
        elif status.returncode != 0:
            raise Violation(f"not healthy after repair: {status.stdout[-3000:]}{status.stderr[-2000:]}")
        self.start()

    def scrub(self):
        """Every byte of every volume is read and put right; whatever it finds it must have put right, and then find no more."""
        for allowed in ((0, 14), (0,)):
            done = self.store.run("scrub", "start", "--wait", "--json", check=False)
            if done.returncode not in allowed:
                raise Violation(
                    f"scrub: exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-2000:]}{self.last_findings()}"
                )
            if done.returncode:
                self.counts["scrubs that found something"] += 1

    def last_findings(self):
        """The newest ones, whatever became of them: they are listed oldest first, a page at a time."""
        newest, after = collections.deque(maxlen=10), []
        while True:
            page = self.store.run("scrub", "findings", "--limit", "1000", *after, "--json", check=False)
            if page.returncode != 0:
                return page.stderr[-1000:]
            page = json.loads(page.stdout)
            newest.extend(page["findings"])
            if not page.get("next"):
                return json.dumps(list(newest), indent=1)
            after = ["--after", page["next"]]

    def collect(self):
        """What was taken out is given back; `verify` and `fsck` behind it tell whether that is all that went."""
        done = self.store.run("gc", "run", "--wait", "--grace", "0", "--json")
        self.counts["MiB given back by gc"] += json.loads(done.stdout)["run"]["freedBytes"] >> 20

    def check_files(self):
        """Every byte of every file is as it should be: what was harmed, the scrubs before have put right."""
        if problems := self.fsck():
            raise Violation(f"fsck --deep: {problems}")

    def fsck(self):
        """What is wrong, by volume."""
        done = self.store.run("fsck", "--deep", "--json", check=False)
        found = {}
        if done.returncode not in (0, 6):
            raise Violation(f"fsck --deep: exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        for finding in json.loads(done.stdout)["findings"]:
            found.setdefault(finding["volume"], []).append(f"{finding['subject']}: {finding['problem']}")
        return found

    def finish(self):
        problems = judge.reread(self)
        if problems:
            raise Violation("\n".join(problems[:40]))
        self.store.end()


class Harm:
    """The faults of one round."""

    def __init__(self, campaign, chance, damages, only):
        self.campaign, self.store, self.chance, self.damages = campaign, campaign.store, chance, damages
        self.victim = chance.randrange(3)
        self.only, self.without = only, campaign.without
        self.must_become_whole = False

    def take_another(self):
        """The store is whole: any volume may be harmed next."""
        self.victim = self.chance.randrange(3)
        self.must_become_whole = False

    def pick(self, ways):
        ways = [way for way in ways if self.only in (None, way[0].__name__) and way[0].__name__ not in self.without]
        if not ways:
            return ""
        functions, weights = zip(*ways)
        way = self.chance.choices(functions, weights)[0]
        self.campaign.faults[way.__name__] += 1
        return way()

    def live(self):
        """Something while the server runs."""
        common = [(self.pause, 3), (self.clock, 2), (self.eio, 4), (self.full, 3), (self.away, 3), (self.heal, 5)]
        return self.pick([*common, (self.flips, 5)] if self.damages else [*common, (self.eio_of_two, 2)])

    def at_rest(self):
        """Something between two lives."""
        common = [(self.catalog, 2), (self.away, 2), (self.empty, 2), (self.eio, 2), (self.heal, 4)]
        return self.pick([*common, (self.flips, 4), (self.lost_file, 2)] if self.damages else common)

    def pause(self):
        seconds = self.chance.choice((0.01, 0.1, 0.5))
        self.store.pause(seconds)
        return f"stopped for {seconds} s"

    def clock(self):
        offset = self.chance.choice((-86400 * 30, -3600, -5, 0, 5, 3600, 86400 * 365))
        self.store.move_clock(offset)
        return f"clock {offset:+} s"

    def eio(self):
        number = self.victim
        self.store.lose(number)
        return f"EIO from volume {number + 1}"

    def eio_of_two(self):
        first, second = self.chance.sample(range(3), 2)
        self.store.lose(first)
        self.store.lose(second)
        # What was written to neither may be dropped by both when they are opened again; both are needed for that.
        self.must_become_whole = True
        time.sleep(self.chance.random() * 0.3)
        self.store.heal(self.chance.choice((first, second)))
        self.store.heal_all()
        return f"EIO from volumes {first + 1} and {second + 1} for a moment"

    def full(self):
        number = self.victim
        self.store.fill(number)
        return f"volume {number + 1} full"

    def away(self):
        number = self.victim
        self.store.take_away(number)
        return f"volume {number + 1} taken away"

    def empty(self):
        number = self.victim
        self.store.take_away(number, leave_empty=True)
        return f"volume {number + 1} an empty directory"

    def heal(self):
        self.store.heal_all()
        return "healed"

    def flips(self):
        told = self.store.flip(self.victim, self.chance, self.chance.randrange(1, 6))
        return f"bits flipped on volume {self.victim + 1}: {' '.join(told)}"

    def lost_file(self):
        return f"volume {self.victim + 1} loses {self.store.lose_file(self.victim, self.chance)}"

    def catalog(self):
        return f"catalog {self.store.harm_catalog(self.chance)}"


def run(seed, cycles=None, hours=None, clients=8, only=None, without=(), keep=False, megabytes=None):
    """Runs a campaign; returns HELD, VIOLATED or UNDECIDED."""
    print(f"nemesis: --seed {seed} --clients {clients} {f'--cycles {cycles}' if cycles else f'--hours {hours}'}", flush=True)
    begin = time.monotonic()
    campaign = Campaign(seed, clients, without, megabytes)
    number, trouble = 0, None
    try:
        campaign.prepare()
        while campaign.kills < cycles if cycles else time.monotonic() - begin < hours * 3600:
            number += 1
            campaign.round(number, CYCLES_PER_ROUND, only)
        campaign.finish()
    except Violation as error:
        trouble = error
    seconds = time.monotonic() - begin
    print(
        f"{campaign.kills} kill -9, {number} rounds, {campaign.done} requests, {campaign.checked} calls of {campaign.histories} keys "
        f"ordered, {len(campaign.undecided)} keys undecided, "
        f"{campaign.acknowledged} acknowledged writes found again, slowest start {campaign.slowest_start:.2f} s, "
        f"slowest catching up {campaign.slowest_catch_up:.2f} s, {seconds:.0f} s"
    )
    for title, counter in (("faults", campaign.faults), ("refused", campaign.refusals), ("calls", campaign.counts)):
        print(f"{title}: {', '.join(f'{name} {count}' for name, count in sorted(counter.items()))}")
    if trouble:
        print(f"VIOLATION, seed {seed}: {trouble}", flush=True)
    if campaign.undecided:
        print(f"UNDECIDED, seed {seed}: {len(campaign.undecided)} of {campaign.histories} keys", *campaign.undecided, sep="\n    ", flush=True)
    if trouble and keep:
        if campaign.store.process and campaign.store.process.poll() is None:
            campaign.store.process.kill()
        print(f"kept: {campaign.store.directory}", flush=True)
    else:
        campaign.store.remove()
    if trouble:
        return VIOLATED
    return UNDECIDED if campaign.undecided else HELD


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--cycles", type=int, default=None, help="how many times kill -9 (default: 50)")
    length.add_argument("--hours", type=float, default=None, help="how long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--only", help="one kind of fault: a method of Harm")
    parser.add_argument("--without", action="append", default=[], help="leave out this kind of fault; repeatable")
    parser.add_argument("--megabytes", type=int, help="volumes on file systems of that size, which become full (root)")
    parser.add_argument("--keep", action="store_true", help="keep the store when something was violated")
    options = parser.parse_args()
    cycles = options.cycles or (None if options.hours else 50)
    return run(options.seed, cycles, options.hours, options.clients, options.only, options.without, options.keep, options.megabytes)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
