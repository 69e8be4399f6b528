package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/tests/node"
)

// TestDeletedRecordsStayDeleted: once DeleteRecords is answered no replica has the records any more, so that they do not come back with the next leader (KIP-107).
func TestDeletedRecordsStayDeleted(t *testing.T) {
	nodes := node.NewCluster(t, 3)
	start(t, nodes)
	c := client(t, nodes, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	admin := kadm.NewClient(c)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := admin.CreateTopics(ctx, 1, 3, nil, "numbers"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: "numbers", Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, offset := range []int64{4, 7} {
		var want kadm.Offsets
		want.AddOffset("numbers", 0, offset, -1)
		began := time.Now()
		got, err := admin.DeleteRecords(ctx, want)
		if err != nil || got.Error() != nil {
			t.Fatal(err, got.Error())
		}
		t.Logf("deleted below %d in %v", offset, time.Since(began))
		if r, _ := got.Lookup("numbers", 0); r.LowWatermark != offset {
			t.Errorf("the low watermark is %d, want %d", r.LowWatermark, offset)
		}
		led := leaderOf(t, admin, nodes)
		led.Kill()
		within(t, 20*time.Second, "another leader", func() bool {
			starts, err := admin.ListStartOffsets(ctx, "numbers")
			o, ok := starts.Lookup("numbers", 0)
			if err != nil || !ok || o.Err != nil {
				return false
			}
			if o.Offset != offset {
				t.Fatalf("the next leader's log starts at %d, want %d", o.Offset, offset)
			}
			return true
		})
		led.Start()
		within(t, 30*time.Second, "all replicas in sync", func() bool { return inSync(admin, "numbers", 3) })
	}
}
