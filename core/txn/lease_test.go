package txn

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
)

// A coordinator that others may have replaced says nothing final to a producer, whose id and epoch may be the next one's.
func TestNothingFinalWithoutALease(t *testing.T) {
	testNode(t, func(t *testing.T, n *node) {
		n.mustInit()
		leased := true
		n.c.leased = func() bool { return leased }
		stranger := statelog.Producer{ID: 4711, Epoch: 3}
		for what, ask := range map[string]func(id string) int16{
			"produce": func(id string) int16 {
				return n.c.VerifyOrAdd(ctx, id, stranger.ID, stranger.Epoch, []TopicPartition{{"orders", 0}}, true)[0]
			},
			"offsets": func(id string) int16 { return n.c.AdmitOffsets(ctx, id, "g", stranger, true) },
			"add offsets": func(id string) int16 {
				return n.c.AddOffsetsToTxn(ctx, &kmsg.AddOffsetsToTxnRequest{Version: 3, TransactionalID: id, Group: "g", ProducerID: stranger.ID, ProducerEpoch: stranger.Epoch}).ErrorCode
			},
			"end": func(id string) int16 {
				return n.c.EndTxn(ctx, &kmsg.EndTxnRequest{Version: 5, TransactionalID: id, ProducerID: stranger.ID, ProducerEpoch: stranger.Epoch}).ErrorCode
			},
			"init": func(string) int16 { _, code := n.init(60_000, stranger.ID, stranger.Epoch); return code },
		} {
			for _, id := range []string{"tx", "unknown"} {
				leased = true
				if code := ask(id); code == 0 || kerr.IsRetriable(kerr.ErrorForCode(code)) {
					t.Errorf("%s of %s with a lease: %v", what, id, kerr.ErrorForCode(code))
				}
				leased = false
				if code := ask(id); !kerr.IsRetriable(kerr.ErrorForCode(code)) {
					t.Errorf("%s of %s without a lease: %v", what, id, kerr.ErrorForCode(code))
				}
			}
		}
	})
}
