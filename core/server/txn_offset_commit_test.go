package server

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/statelog"
)

// KIP-890 part 1, for offsets: a commit whose transaction has ended after the coordinator's yes opens none that nobody would end.
func TestTxnOffsetCommitBehindItsMarker(t *testing.T) {
	n := newNode(t, nodeOptions{static: map[string]string{"offsets.topic.num.partitions": "1", "transaction.state.log.num.partitions": "1"}})
	n.topic("orders", 1)
	txns, groups, ctx, id := n.s.d.Txns, n.s.d.Groups, t.Context(), "tx"
	if err := errors.Join(groups.EnsureTopic(ctx), txns.EnsureTopic(ctx)); err != nil {
		t.Fatal(err)
	}
	init := kmsg.NewPtrInitProducerIDRequest()
	init.Version, init.TransactionalID, init.TransactionTimeoutMillis = 4, &id, 60000
	var p statelog.Producer
	eventually(t, "a transaction", func() bool {
		r := txns.InitProducerID(ctx, init)
		p = statelog.Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch}
		return r.ErrorCode == 0
	})
	enlist := func() {
		t.Helper()
		eventually(t, "a transaction", func() bool {
			ao := kmsg.NewPtrAddOffsetsToTxnRequest()
			ao.Version, ao.TransactionalID, ao.ProducerID, ao.ProducerEpoch, ao.Group = 3, id, p.ID, p.Epoch, "g"
			return txns.AddOffsetsToTxn(ctx, ao).ErrorCode == 0
		})
	}
	end := func(commit bool) {
		t.Helper()
		et := kmsg.NewPtrEndTxnRequest()
		et.Version, et.TransactionalID, et.ProducerID, et.ProducerEpoch, et.Commit = 4, id, p.ID, p.Epoch, commit
		if code := txns.EndTxn(ctx, et).ErrorCode; code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		eventually(t, "a transaction", func() bool { // the markers are there
			d := kmsg.NewPtrDescribeTransactionsRequest()
			d.TransactionalIDs = []string{id}
			state := txns.DescribeTransactions(ctx, d).TransactionStates[0].State
			return state == "CompleteAbort" || state == "CompleteCommit"
		})
	}
	commit := func(offset int64, meanwhile func()) int16 {
		t.Helper()
		r := kmsg.NewPtrTxnOffsetCommitRequest()
		r.Version, r.TransactionalID, r.Group, r.ProducerID, r.ProducerEpoch, r.Generation = 3, id, "g", p.ID, p.Epoch, -1
		tp := kmsg.NewTxnOffsetCommitRequestTopic()
		tp.Topic, tp.Partitions = "orders", []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: offset, LeaderEpoch: -1}}
		r.Topics = append(r.Topics, tp)
		return groups.TxnOffsetCommit(ctx, r, func() int16 {
			code := txns.AdmitOffsets(ctx, id, "g", p, false)
			if meanwhile != nil {
				meanwhile()
			}
			return code
		}).Topics[0].Partitions[0].ErrorCode
	}
	for _, before := range []bool{false, true} { // whether the transaction is open in the log before
		enlist()
		if before {
			if code := commit(100, nil); code != 0 {
				t.Fatal(kerr.ErrorForCode(code))
			}
		}
		if code := commit(200, func() { end(false) }); code != kerr.InvalidTxnState.Code {
			t.Errorf("open before: %v: a commit behind the marker of its transaction: %v, want INVALID_TXN_STATE", before, kerr.ErrorForCode(code))
		}
		log, err := n.set.Partition(group.Topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		if lso, end := log.LastStable(), log.Log().EndOffset(); lso != end {
			t.Errorf("open before: %v: a transaction that nobody ends: last stable offset %d of %d", before, lso, end)
		}
	}
	enlist()
	if code := commit(300, nil); code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	end(true)

	// The same of a batch that is on its way to the log.
	log, err := n.set.Partition(group.Topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	store := statelog.StoreOf(log)
	_, epoch := log.Leader()
	for _, open := range []bool{false, true} {
		batch := func() []byte {
			b, err := statelog.EncodeBatch(0, p, statelog.Record{Key: []byte("k")})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if open {
			if _, err := store.Append(batch(), epoch, commitlog.Guard{}); err != nil {
				t.Fatal(err)
			}
		}
		g, ask := store.Verify(p)
		if ask == open {
			t.Errorf("open: %v, ask: %v", open, ask)
		}
		if _, _, err := store.AppendMarker(statelog.EncodeMarker(0, p, 0, false), epoch, p); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Append(batch(), epoch, g); !errors.Is(err, commitlog.ErrInvalidTxnState) {
			t.Errorf("open: %v: behind its marker: %v", open, err)
		}
	}
}
