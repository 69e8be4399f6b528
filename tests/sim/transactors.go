package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/txn"
)

// transactor is one transactional id that turns inputs 0, 1, 2... into a record each, and commits in the same transaction how far it has come: what is to be seen
// in the end is every input once. Its process ends now and then and another takes its place; the old one may not know.
type transactor struct {
	w       *World
	id      int
	name    string // transactional id, and group
	next    int64  // of its records
	process int    // the newest
	current *session
	rested  bool // the last has done all that was to be done

	producer int64 // as it was told; -1: never
	epochs   map[int16]bool
	fence    int16 // the newest epoch that was given to a process: all with older ones are shut out
	reached  int64 // inputs whose commit was confirmed, or that a process was told of
}

// session is one process of a transactor.
type session struct {
	*transactor
	n         int
	gone      bool
	producer  int64
	epoch     int16
	sequences map[int32]int32
	known     map[int32]int32 // the newest leader epochs that it has heard of: it goes to no older leader (KIP-320)
	at        int64           // the next input
}

// patienceOf a client with a coordinator.
const coordinatorTimeout = 1500 * time.Millisecond

func (w *World) startTransactors() {
	if !w.txns {
		return
	}
	for range 2 + w.rng.IntN(3) {
		id := len(w.clients)
		w.clients = append(w.clients, &transactor{w: w, id: id, name: fmt.Sprintf("transactor-%d", id), producer: -1, epochs: map[int16]bool{}, fence: -1})
	}
}

func (t *transactor) begin() {
	w := []time.Duration{2, 8, 25}[t.w.rng.IntN(3)] * time.Second // between processes
	t.w.after(t.w.between(500*time.Millisecond, time.Second), t.restart)
	var again func()
	again = func() {
		if !t.w.calm {
			t.restart()
			t.w.after(t.w.between(300*time.Millisecond, w*2), again)
		}
	}
	t.w.after(t.w.between(2*time.Second, 6*time.Second), again)
}

func (t *transactor) done() bool { return t.rested }
func (t *transactor) say() string {
	return fmt.Sprintf("%s: process %d, %d records, reached %d, rested %v", t.name, t.process, t.next, t.reached, t.rested)
}

// restart puts a new process in the place of the current one, which may go on without knowing.
func (t *transactor) restart() {
	t.process++
	if old := t.current; old != nil {
		old.gone = old.gone || t.w.calm || t.w.chance(0.5)
	}
	s := &session{transactor: t, n: t.process, producer: -1, epoch: -1, known: map[int32]int32{}}
	t.current = s
	t.w.note("%s: process %d begins", t.name, s.n)
	t.w.turns.Go(s.run)
}

// live ends a process that is gone; one that was replaced does not outlive the faults.
func (s *session) live() {
	if s.gone || s.w.calm && s.current != s {
		panic(errEnded)
	}
}

// over is what a process does that cannot go on.
func (s *session) over(what string, err error) {
	s.w.note("%s: process %d cannot go on: %s: %v", s.name, s.n, what, err)
	s.gone = true
	if s.current == s {
		s.w.after(s.w.between(10*time.Millisecond, 500*time.Millisecond), func() {
			if s.current == s {
				s.restart()
			}
		})
	}
	panic(errEnded)
}

func (s *session) pause(a, b time.Duration) {
	statelog.Pause(context.Background(), &s.w.turns, s.w.between(a, b))
	s.live()
}

// fenced says that a newer process has been told that it has taken this one's place.
func (s *session) fenced() bool { return s.producer >= 0 && s.epoch < s.fence }

// reading changes nothing: it is for everybody.
const reading = "OffsetFetch"

// reply is an answer to a request.
type reply[T any] struct {
	value T
	err   error
}

// insist asks the leader of a partition until it has an answer that is no call for patience; serve is called at the leader. Who was fenced when it asked is
// told yes by nobody.
func insist[T any](s *session, k part, what string, serve func(x *node, answer func(T, error))) T {
	for {
		s.live()
		leader, epoch, ok := s.w.leaderOf(k)
		if k.topic == topicName && ok {
			ok = epoch >= s.known[k.number]
			s.known[k.number] = max(epoch, s.known[k.number])
		}
		if !ok {
			s.pause(10*time.Millisecond, 60*time.Millisecond)
			continue
		}
		fenced := s.fenced()
		answered := make(chan reply[T], 1)
		s.w.ask(outside, leader, func(x *node, answer func(func())) {
			serve(x, func(v T, err error) { answer(func() { answered <- reply[T]{v, err} }) })
		})
		r, late := statelog.Await(context.Background(), &s.w.turns, answered, s.w.turns.After(coordinatorTimeout))
		s.live()
		switch {
		case late != nil:
		case r.err == nil:
			if fenced && what != reading {
				s.w.fail("%s: process %d with epoch %d was fenced by epoch %d, and after that it was told that its %s is done", s.name, s.n, s.epoch, s.fence, what)
			}
			return r.value
		case errors.Is(r.err, commitlog.ErrOutOfOrderSequence) && !s.fenced():
			s.w.fail("%s: process %d has had all before acknowledged, and is told that its next batch is out of order: %v", s.name, s.n, r.err)
			s.over(what, r.err)
		case final(r.err):
			s.over(what, r.err)
		default:
			s.pause(5*time.Millisecond, 60*time.Millisecond)
		}
	}
}

func (s *session) run() {
	s.init()
	s.fetch()
	for !s.w.calm {
		s.transaction()
		s.pause(time.Millisecond, 80*time.Millisecond)
	}
	s.live()
	s.rested = true
}

func (s *session) coordinator() part {
	return part{txn.Topic, statelog.PartitionFor(s.name, s.w.count(txn.Topic))}
}

func (s *session) groupPart() part {
	return part{group.Topic, statelog.PartitionFor(s.name, s.w.count(group.Topic))}
}

// init gets an epoch, which fences all processes before.
func (s *session) init() {
	timeout := int32(s.w.between(400*time.Millisecond, 5*time.Second).Milliseconds())
	s.w.moment(0.2, 30*time.Millisecond)
	asked := s.fence
	told := insist(s, s.coordinator(), "InitProducerId", func(x *node, answer func(*kmsg.InitProducerIDResponse, error)) {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version, req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = 5, &s.name, timeout, -1, -1
		resp := x.txns.InitProducerID(x.running, req)
		if resp.ErrorCode == 0 && !x.dying {
			s.given(s.n, asked, resp.ProducerID, resp.ProducerEpoch)
		}
		answer(resp, kerr.ErrorForCode(resp.ErrorCode))
	})
	s.producer, s.epoch, s.sequences = told.ProducerID, told.ProducerEpoch, map[int32]int32{}
}

// given notes what a coordinator answers to InitProducerId; asked is the newest epoch when the process asked first. A coordinator that was held up may answer late: no epoch is
// given twice, and none that is not newer than what was told before the question.
func (t *transactor) given(process int, asked int16, producer int64, epoch int16) {
	t.w.note("%s: process %d is given producer %d epoch %d", t.name, process, producer, epoch)
	if t.producer >= 0 && producer != t.producer || epoch <= asked || t.epochs[epoch] {
		t.w.fail("%s: a process was given producer %d epoch %d, after producer %d epoch %d was given", t.name, producer, epoch, t.producer, asked)
	}
	t.epochs[epoch] = true
	t.producer, t.fence = producer, max(t.fence, epoch)
}

// fetch learns where to go on.
func (s *session) fetch() {
	least := s.reached
	told := insist(s, s.groupPart(), reading, func(x *node, answer func(int64, error)) { answer(x.fetchOffset(s.name)) })
	if told < least && least > 0 {
		s.w.fail("%s: process %d was told that its group has committed %d, after %d was", s.name, s.n, told, least)
	}
	s.at = max(told, 0)
	s.reached = max(s.reached, s.at)
}

// transaction takes some inputs, and commits or aborts.
func (s *session) transaction() {
	x := s.w.check.begun(s)
	for range 1 + s.w.rng.IntN(3) {
		s.produce(x)
		if s.w.chance(0.02) {
			s.pause(time.Second, 6*time.Second) // it may run out of time
		}
	}
	commit := s.w.chance(0.75)
	if commit || s.w.chance(0.5) {
		s.commitOffset(x)
	}
	s.end(x, commit)
}

// produce writes the record of the next input of a transaction.
func (s *session) produce(x *transaction) {
	number := int32(x.to) % s.w.partitions
	value := int64(s.id)<<32 | s.next
	s.next++
	s.w.check.wrote(x, value, x.to)
	x.to++
	b := record.NewBuilder()
	b.Attributes = record.Transactional
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = s.producer, s.epoch, s.sequences[number]
	b.Append(epochOfTime.UnixMilli(), nil, binary.BigEndian.AppendUint64(nil, uint64(value)))
	made, err := b.Bytes()
	if err != nil {
		s.w.fail("batch: %v", err)
	}
	raw := bytes.Clone(made) // each try has its own: the log patches it
	producer, epoch, sequence := s.producer, s.epoch, s.sequences[number]
	a := insist(s, data(number), "Produce", func(n *node, answer func(commitlog.Appended, error)) {
		n.produceTxn(data(number), s.name, bytes.Clone(raw), producer, epoch, sequence, answer)
	})
	s.w.check.where[value] = place{data(number), a.Base}
	s.sequences[number]++
}

// commitOffset has the transaction say how far it has come.
func (s *session) commitOffset(x *transaction) {
	p := statelog.Producer{ID: s.producer, Epoch: s.epoch}
	to := x.to
	insist(s, s.groupPart(), "TxnOffsetCommit", func(n *node, answer func(struct{}, error)) {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.Version, req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = 5, s.name, s.name, p.ID, p.Epoch, -1
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = input.number, to
		t.Topic, t.Partitions = input.topic, append(t.Partitions, rp)
		req.Topics = append(req.Topics, t)
		resp := n.groups.TxnOffsetCommit(n.running, req, func() int16 { return n.txns.AdmitOffsets(n.running, s.name, s.name, p, true) })
		answer(struct{}{}, kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
	})
}

// end commits or aborts; the answer has the next transaction's epoch.
func (s *session) end(x *transaction, commit bool) {
	x.committing = commit
	s.w.moment(0.3, 20*time.Millisecond)
	producer, epoch := s.producer, s.epoch
	resp := insist(s, s.coordinator(), "EndTxn", func(n *node, answer func(*kmsg.EndTxnResponse, error)) {
		req := kmsg.NewPtrEndTxnRequest()
		req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = 5, s.name, producer, epoch, commit
		resp := n.txns.EndTxn(n.running, req)
		answer(resp, kerr.ErrorForCode(resp.ErrorCode))
	})
	s.w.check.ended(x, commit)
	s.producer, s.epoch, s.sequences = resp.ProducerID, resp.ProducerEpoch, map[int32]int32{}
	if commit {
		s.at = x.to
		s.reached = max(s.reached, s.at)
	}
}
