package commitlog

import (
	"testing"

	"github.com/forebayhub/forebay/core/record"
)

// A leader that lost its tail begins its epoch again at a lower end before it knows that another leads by now. What it copies then is of an
// older epoch than the one that it began without a record. Like LeaderEpochFileCache.assign of Kafka, which drops entries that are not monotonic.
func TestEpochWithoutRecordsGivesWayToOlder(t *testing.T) {
	o, _ := memoryLog(t, Config{})
	l := mustOpen(t, o)
	of := func(epoch int32, at int64) func(*record.Builder) {
		return func(w *record.Builder) { w.BaseOffset, w.LeaderEpoch = at, epoch }
	}
	check := func(epoch, found int32, end int64) {
		t.Helper()
		if f, e := l.EpochEnd(epoch); f != found || e != end {
			t.Errorf("epoch %d: %d up to %d, want %d up to %d", epoch, f, e, found, end)
		}
	}
	follow := func(b []byte) {
		t.Helper()
		if _, err := l.Append(b, 5, FromLeader); err != nil {
			t.Fatal(err)
		}
	}
	follow(batch(t, 1, []string{"a", "b"}, of(0, 0)))
	for epoch := int32(1); epoch <= 2; epoch++ {
		if err := l.BeginEpoch(epoch); err != nil {
			t.Fatal(err)
		}
	}
	check(0, 0, 2)
	follow(batch(t, 1, []string{"c", "d"}, of(0, 2)))
	check(0, 0, 4)
	check(1, -1, -1)
	follow(batch(t, 1, []string{"e"}, of(1, 4)))
	check(0, 0, 4)
	check(1, 1, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	check(0, 0, 4)
	check(1, 1, 5)
}

// A node that stops had its partitions led in new epochs since it was started, most of them without a record. Nothing is written for those; with the first record it is.
func TestStopWritesNothingForAnEpochWithoutRecords(t *testing.T) {
	o, _ := memoryLog(t, Config{})
	l := mustOpen(t, o)
	mustAppend(t, l, batch(t, 1, []string{"a"}))
	reopen := func() {
		t.Helper()
		waitDurable(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, o)
	}
	reopen()
	point := l.saved
	if err := l.BeginEpoch(7); err != nil {
		t.Fatal(err)
	}
	reopen()
	if l.saved != point {
		t.Errorf("the recovery point was %+v and is %+v", point, l.saved)
	}
	if err := l.BeginEpoch(8); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(batch(t, 1, []string{"b"}), 8, FromClient); err != nil {
		t.Fatal(err)
	}
	reopen()
	if found, end := l.EpochEnd(8); found != 8 || end != 2 {
		t.Errorf("epoch 8: %d up to %d", found, end)
	}
	raw, err := readEpochs(l.fs, l.dir)
	if err != nil || len(raw) == 0 || raw[len(raw)-1] != (epochEntry{8, 1}) {
		t.Errorf("on disk: %v, %v", raw, err)
	}
}
