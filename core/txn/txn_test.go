package txn

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
)

func TestCommitAndAbort(t *testing.T) {
	for _, old := range []bool{false, true} {
		testNode(t, func(t *testing.T, n *node) {
			p := n.mustInit()
			p.old = old
			if p.epoch != 0 {
				t.Fatalf("first epoch %d", p.epoch)
			}
			for i, commit := range []bool{true, false, true} {
				wantCode(t, "produce", p.produce(0), 0)
				wantCode(t, "produce", p.produce(1), 0)
				wantCode(t, "end", p.end(commit), 0)
				if want := int16(i + 1); !old && p.epoch != want {
					t.Fatalf("epoch %d after %d transactions", p.epoch, want)
				}
			}
			wantLog(t, n, 0, "rCrArC")
			wantLog(t, n, 1, "rCrArC")
			if got := n.phase(); got != "CompleteCommit" {
				t.Fatalf("state %s", got)
			}
		})
	}
}

func TestVerifyWithoutAdd(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		tp := []TopicPartition{{"orders", 0}}
		wantCode(t, "verify", n.c.VerifyOrAdd(ctx, "tx", p.id, p.epoch, tp, false)[0], kerr.TransactionAbortable.Code)
		wantCode(t, "wrong epoch", n.c.VerifyOrAdd(ctx, "tx", p.id, p.epoch+1, tp, true)[0], kerr.InvalidProducerEpoch.Code)
		wantCode(t, "wrong id", n.c.VerifyOrAdd(ctx, "tx", p.id+1, p.epoch, tp, true)[0], kerr.InvalidProducerIDMapping.Code)
		wantCode(t, "unknown", n.c.VerifyOrAdd(ctx, "ty", p.id, p.epoch, tp, true)[0], kerr.InvalidProducerIDMapping.Code)
	})
}

func TestZombieIsFenced(t *testing.T) {
	for _, old := range []bool{false, true} {
		testNode(t, func(t *testing.T, n *node) {
			zombie := n.mustInit()
			zombie.old = old
			wantCode(t, "produce", zombie.produce(0), 0)
			p := n.mustInit() // aborts the open transaction, without bouncing
			wantLog(t, n, 0, "rA")
			if p.epoch != 2 {
				t.Fatalf("epoch %d", p.epoch)
			}
			code := zombie.produce(0)
			if code != kerr.InvalidProducerEpoch.Code && code != kerr.ProducerFenced.Code {
				t.Fatalf("zombie's produce: code %d", code)
			}
			wantCode(t, "zombie's commit", zombie.end(true), kerr.ProducerFenced.Code)
			wantCode(t, "zombie's abort", zombie.end(false), kerr.ProducerFenced.Code)
			wantCode(t, "produce", p.produce(0), 0)
			wantCode(t, "zombie's commit", zombie.end(true), kerr.ProducerFenced.Code)
			wantCode(t, "commit", p.end(true), 0)
			wantLog(t, n, 0, "rArC")
			_, code = n.init(60_000, zombie.id, zombie.epoch)
			wantCode(t, "zombie's init", code, kerr.ProducerFenced.Code)
		})
	}
}

// kip890: a retried EndTxn is answered as the first one was, and one that was held up on its way never touches the
// next transaction.
func TestLateEndTxn(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		late := *p
		wantCode(t, "produce", p.produce(0), 0)
		wantCode(t, "commit", p.end(true), 0)
		retry := late
		wantCode(t, "retry", retry.end(true), 0)
		if retry.epoch != p.epoch || retry.id != p.id {
			t.Fatalf("retry goes on with epoch %d, the first with %d", retry.epoch, p.epoch)
		}
		wantCode(t, "abort of what is committed", late.end(false), kerr.InvalidTxnState.Code)
		n.restart()
		retry = late
		wantCode(t, "retry after a restart", retry.end(true), 0)
		wantCode(t, "produce", p.produce(0), 0)
		wantCode(t, "late commit", late.end(true), kerr.ProducerFenced.Code)
		wantCode(t, "late abort", late.end(false), kerr.ProducerFenced.Code)
		wantCode(t, "abort", p.end(false), 0)
		wantLog(t, n, 0, "rCrA")
	})
}

func TestEndTxnWithoutPartitions(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		wantCode(t, "commit of nothing", p.end(true), kerr.InvalidTxnState.Code)
		wantCode(t, "abort of nothing", p.end(false), 0)
		if p.epoch != 1 {
			t.Fatalf("epoch %d", p.epoch)
		}
		wantCode(t, "abort of nothing", p.end(false), 0)
		wantCode(t, "produce", p.produce(0), 0)
		wantCode(t, "commit", p.end(true), 0)
		wantCode(t, "abort of nothing", p.end(false), 0)
		wantLog(t, n, 0, "rC")
	})
}

// Kafka's Java client sends the EndTxn of a transaction whose records are still to come, when its threads meet: right after the last
// one's end. With CONCURRENT_TRANSACTIONS it sends the records and asks again, with INVALID_TXN_STATE its producer is dead. Kafka gives
// the former as long as markers are written, whatever those take.
func TestCommitAheadOfItsRecords(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		wantCode(t, "produce", p.produce(0), 0)
		n.orders[0].Hold()
		wantCode(t, "commit", p.end(true), 0)
		wantCode(t, "commit of nothing, before the markers", p.end(true), kerr.ConcurrentTransactions.Code)
		n.orders[0].Release()
		synctest.Wait()
		wantCode(t, "commit of nothing, after the markers", p.end(true), kerr.ConcurrentTransactions.Code)
		wantCode(t, "produce", p.produce(0), 0)
		wantCode(t, "commit", p.end(true), 0)
		synctest.Wait()
		<-time.After(overtakenFor * time.Millisecond) // by the bubble's clock
		wantCode(t, "commit of nothing, and nothing came", p.end(true), kerr.InvalidTxnState.Code)
		wantLog(t, n, 0, "rCrC")
	})
}

// The next transaction waits for the markers of the last one, instead of bouncing with CONCURRENT_TRANSACTIONS.
func TestNextTransactionIsParked(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		wantCode(t, "produce", p.produce(0), 0)
		n.orders[0].Hold()
		wantCode(t, "commit", p.end(true), 0) // does not wait for the markers
		done := make(chan int16, 1)
		go func() { done <- p.produce(1) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("did not wait for the markers")
		default:
		}
		if got := n.phase(); got != "PrepareCommit" {
			t.Fatalf("state %s", got)
		}
		n.orders[0].Release()
		wantCode(t, "produce", <-done, 0)
		wantCode(t, "commit", p.end(true), 0)
		wantCode(t, "produce", p.produce(0), 0)
		n.orders[0].Hold()
		wantCode(t, "commit", p.end(true), 0)
		began := time.Now()
		wantCode(t, "produce", p.produce(1), kerr.ConcurrentTransactions.Code) // patience has an end
		if d := time.Since(began); d != 5*time.Second {
			t.Fatalf("waited %v", d)
		}
		n.orders[0].Release()
	})
}

func TestTimeoutAborts(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p, code := n.init(10_000, -1, -1)
		wantCode(t, "init", code, 0)
		wantCode(t, "produce", p.produce(0), 0)
		<-time.After(8 * time.Second)
		wantCode(t, "produce", p.produce(1), 0)
		wantLog(t, n, 0, "r")
		<-time.After(3 * time.Second)
		wantLog(t, n, 0, "rA")
		wantLog(t, n, 1, "rA")
		wantCode(t, "commit", p.end(true), kerr.ProducerFenced.Code)
		wantCode(t, "produce", p.produce(0), kerr.InvalidProducerEpoch.Code)
		_, code = n.init(1<<30, -1, -1)
		wantCode(t, "init", code, kerr.InvalidTransactionTimeout.Code)
	})
}

// KIP-588: who was too slow is told so, and goes on with a new epoch; unless somebody else has begun.
func TestGoesOnAfterATimeout(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p, _ := n.init(10_000, -1, -1)
		wantCode(t, "produce", p.produce(0), 0)
		<-time.After(11 * time.Second)
		wantCode(t, "commit", p.end(true), kerr.ProducerFenced.Code)
		next, code := n.init(10_000, p.id, p.epoch)
		wantCode(t, "init", code, 0)
		if next.id != p.id || next.epoch != p.epoch+1 {
			t.Fatalf("%d epoch %d after %d epoch %d", next.id, next.epoch, p.id, p.epoch)
		}
		again, code := n.init(10_000, p.id, p.epoch)
		wantCode(t, "init, the answer was lost", code, 0)
		if again.epoch != next.epoch {
			t.Fatalf("epoch %d, then %d", next.epoch, again.epoch)
		}
		wantCode(t, "produce", next.produce(0), 0)
		<-time.After(11 * time.Second)
		n.mustInit()
		_, code = n.init(10_000, next.id, next.epoch)
		wantCode(t, "init of one that was replaced", code, kerr.ProducerFenced.Code)
	})
}

func TestTimeoutAfterRestart(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p, _ := n.init(10_000, -1, -1)
		wantCode(t, "produce", p.produce(0), 0)
		n.restart()
		wantCode(t, "produce", p.produce(1), 0)
		<-time.After(11 * time.Second)
		wantLog(t, n, 0, "rA")
		wantLog(t, n, 1, "rA")
	})
}

// Whatever the log acknowledged before a crash is finished after it, with one marker in each partition.
func TestCrashAtEveryStep(t *testing.T) {
	t.Run("before the decision", func(t *testing.T) {
		testNode(t, func(t *testing.T, n *node) {
			p := n.mustInit()
			wantCode(t, "produce", p.produce(0), 0)
			n.log.Hold()
			answered := make(chan int16, 1)
			go func() { q := *p; answered <- q.end(true) }()
			synctest.Wait()
			wantLog(t, n, 0, "r") // no marker before the decision is durable
			n.restart()
			if code := <-answered; code == 0 {
				t.Fatal("answered a commit that was not durable")
			}
			if got := n.phase(); got != "Ongoing" {
				t.Fatalf("state %s", got)
			}
			wantCode(t, "commit again", p.end(true), 0)
			wantLog(t, n, 0, "rC")
		})
	})
	t.Run("between the markers", func(t *testing.T) {
		testNode(t, func(t *testing.T, n *node) {
			p := n.mustInit()
			wantCode(t, "produce", p.produce(0), 0)
			wantCode(t, "produce", p.produce(1), 0)
			n.orders[1].Hold()
			wantCode(t, "commit", p.end(true), 0)
			wantLog(t, n, 0, "rC")
			n.restart()
			wantLog(t, n, 0, "rC")
			wantLog(t, n, 1, "rC")
			wantCode(t, "produce", p.produce(0), 0)
		})
	})
	t.Run("after the markers", func(t *testing.T) {
		testNode(t, func(t *testing.T, n *node) {
			p := n.mustInit()
			wantCode(t, "produce", p.produce(0), 0)
			n.orders[0].Hold()
			wantCode(t, "commit", p.end(true), 0)
			n.log.Hold()
			n.orders[0].Release()
			done := make(chan int16, 1)
			go func() { done <- p.produce(1) }() // on top of a CompleteCommit that is not durable
			synctest.Wait()
			n.restart()
			if code := <-done; code == 0 {
				t.Fatal("added a partition by a record that was not durable")
			}
			if got := n.phase(); got != "CompleteCommit" {
				t.Fatalf("state %s", got)
			}
			wantLog(t, n, 0, "rC")
		})
	})
}

func TestInitRetry(t *testing.T) { // KIP-360
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		a, code := n.init(60_000, p.id, p.epoch)
		wantCode(t, "bump", code, 0)
		b, code := n.init(60_000, p.id, p.epoch)
		wantCode(t, "its retry", code, 0)
		if a.epoch != 1 || b.epoch != 1 {
			t.Fatalf("epochs %d and %d", a.epoch, b.epoch)
		}
		n.mustInit()
		_, code = n.init(60_000, p.id, p.epoch)
		wantCode(t, "after somebody else", code, kerr.ProducerFenced.Code)
	})
}

func TestEpochsRunOut(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		at := func(epoch int16) {
			s, code := n.c.lock(ctx, "tx")
			wantCode(t, "lock", code, 0)
			s.txns["tx"].cur.epoch = epoch
			s.unlock()
			p.epoch = epoch
		}
		at(math.MaxInt16 - 1)
		first := *p
		wantCode(t, "produce", p.produce(0), 0)
		wantCode(t, "commit", p.end(true), 0)
		if p.id == first.id || p.epoch != 0 {
			t.Fatalf("goes on with %d epoch %d", p.id, p.epoch)
		}
		wantCode(t, "produce", p.produce(0), 0)
		wantCode(t, "late commit", first.end(true), kerr.InvalidProducerIDMapping.Code)
		wantCode(t, "abort", p.end(false), 0)
		wantLog(t, n, 0, "rCrA")
		at(math.MaxInt16 - 1)
		q := n.mustInit()
		if q.id == p.id || q.epoch != 0 {
			t.Fatalf("init gave %d epoch %d", q.id, q.epoch)
		}
	})
}

func TestOffsetsInTransaction(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		who := statelog.Producer{ID: p.id, Epoch: p.epoch}
		wantCode(t, "TV1 without AddOffsetsToTxn", n.c.AdmitOffsets(ctx, "tx", "g", who, false), kerr.InvalidTxnState.Code)
		wantCode(t, "TV2", n.c.AdmitOffsets(ctx, "tx", "g", who, true), 0)
		wantCode(t, "commit", p.end(true), 0)
		synctest.Wait()
		if len(n.offsets) != 1 || n.offsets[0].Epoch != 1 {
			t.Fatalf("markers for offsets: %+v", n.offsets)
		}
		r := kmsg.NewPtrAddOffsetsToTxnRequest()
		r.Version, r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Group = 3, "tx", p.id, p.epoch, "g"
		wantCode(t, "AddOffsetsToTxn", n.c.AddOffsetsToTxn(ctx, r).ErrorCode, 0)
		who.Epoch = p.epoch
		wantCode(t, "TV1", n.c.AdmitOffsets(ctx, "tx", "g", who, false), 0)
	})
}

func TestIDsExpire(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		wantCode(t, "produce", p.produce(0), 0)
		wantCode(t, "commit", p.end(true), 0)
		<-time.After(6 * 24 * time.Hour)
		if got := n.phase(); got != "CompleteCommit" {
			t.Fatalf("state %s", got)
		}
		<-time.After(26 * time.Hour)
		if got := n.phase(); got != "gone" {
			t.Fatalf("state %s", got)
		}
		n.restart()
		if got := n.phase(); got != "gone" {
			t.Fatalf("state %s", got)
		}
	})
}

func TestListTransactions(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		p := n.mustInit()
		wantCode(t, "produce", p.produce(0), 0)
		<-time.After(2 * time.Second)
		list := func(set func(*kmsg.ListTransactionsRequest)) int {
			r := kmsg.NewPtrListTransactionsRequest()
			r.Version = 2
			set(r)
			return len(n.c.ListTransactions(r).TransactionStates)
		}
		pattern := func(s string) *string { return &s }
		for i, c := range []struct {
			set  func(*kmsg.ListTransactionsRequest)
			want int
		}{
			{func(*kmsg.ListTransactionsRequest) {}, 1},
			{func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Ongoing"} }, 1},
			{func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Empty"} }, 0},
			{func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{p.id + 1} }, 0},
			{func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 1000 }, 1},
			{func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 5000 }, 0},
			{func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = pattern("t.") }, 1},
			{func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = pattern("t") }, 0},
		} {
			if got := list(c.set); got != c.want {
				t.Errorf("case %d: %d, want %d", i, got, c.want)
			}
		}
		r := kmsg.NewPtrListTransactionsRequest()
		r.Version, r.TransactionalIDPattern = 2, pattern(strings.Repeat(".{0,1000}", 800))
		wantCode(t, "a pattern that would take 400 MB", n.c.ListTransactions(r).ErrorCode, kerr.InvalidRegularExpression.Code)
	})
}

func TestRecordRoundTrip(t *testing.T) {
	in := meta{producer: 7, previous: 6, next: 8, epoch: 32767, lastEpoch: 32766, timeout: 1000, phase: prepareCommit, start: 5, updated: 6, version: 2,
		parts: map[TopicPartition]struct{}{{"a", 1}: {}, {"a", 0}: {}, {"b", 3}: {}}}
	id, out, ok, err := decode(in.record("tx"))
	if err != nil || !ok || id != "tx" {
		t.Fatal(id, ok, err)
	}
	if out.record("tx").Value == nil || string(out.record("tx").Value) != string(in.record("tx").Value) || out.lastEpoch != in.lastEpoch || len(out.parts) != 3 {
		t.Fatalf("%+v", out)
	}
}

// TestDecodeBelievesNoCount: kmsg would count to four billion, for eight seconds.
func TestDecodeBelievesNoCount(t *testing.T) {
	r := (&meta{producer: 7, phase: ongoing}).record("tx")
	value := append(r.Value[:2+8+2+4+1:2+8+2+4+1], 1)                           // no topics
	value = append(append(value, make([]byte, 8+8)...), 255, 255, 255, 255, 15) // and very many tags
	began := time.Now()
	_, _, _, err := decode(statelog.Record{Key: r.Key, Value: value})
	if took := time.Since(began); err == nil || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

func FuzzDecode(f *testing.F) {
	m := meta{producer: 7, parts: map[TopicPartition]struct{}{{"a", 1}: {}}, phase: ongoing}
	r := m.record("tx")
	f.Add(r.Key, r.Value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		_, _, _, _ = decode(statelog.Record{Key: key, Value: value})
	})
}
