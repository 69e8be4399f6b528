package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/tests/node"
)

// mount makes a small disk, and gives what shows it at a path and takes it away from there again, as a disk that is mounted or not.
func mount(t *testing.T, at string) (show, hide func()) {
	t.Helper()
	disk := smallDisk(t)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	show = func() {
		t.Helper()
		if err := unix.Mount(disk, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	hide = func() {
		t.Helper()
		if err := unix.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return show, hide
}

// TestTwoDisks is a node with two log directories, each a disk: one gets full, the node is killed, the disk is not mounted, and then it is again.
func TestTwoDisks(t *testing.T) {
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	showA, _ := mount(t, a)
	showB, hideB := mount(t, b)
	showA()
	showB()
	n := node.New(t, "--data", filepath.Join(root, "data"), "--set", "log.dirs="+a+","+b)
	n.Start()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cl := client(t, n.Kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(2), kgo.RetryTimeout(3*time.Second),
		kgo.RecordDeliveryTimeout(5*time.Second), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(50*time.Millisecond))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 2, 1, nil, "x"); err != nil {
		t.Fatal(err)
	}
	acked := map[int32]int64{}
	put := func(p int32) error {
		err := cl.ProduceSync(ctx, &kgo.Record{Topic: "x", Partition: p, Value: []byte(strings.Repeat("y", 256<<10))}).FirstErr()
		if err == nil {
			acked[p]++
		}
		return err
	}
	for p := range int32(2) {
		if err := put(p); err != nil {
			t.Fatal(err)
		}
	}
	dirs := func() kadm.DescribedLogDirs {
		t.Helper()
		all, err := adm.DescribeAllLogDirs(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return all[1]
	}
	var inA, inB int32 = -1, -1
	for p := range dirs()[a].Topics["x"] {
		inA = p
	}
	for p := range dirs()[b].Topics["x"] {
		inB = p
	}
	if inA < 0 || inB < 0 {
		t.Fatalf("a partition in each directory: %+v", dirs())
	}

	var refused error
	for refused == nil && acked[inB] < 400 {
		refused = put(inB)
	}
	if refused == nil {
		t.Fatal("100 MB went into 48")
	}
	t.Logf("%d records into b, then: %v", acked[inB], refused)
	if err := put(inA); err != nil {
		t.Errorf("b is full, and a refuses: %v", err)
	}
	if got := dirs(); got[b].Err != nil || got[a].Err != nil {
		t.Errorf("a full directory is not offline: %+v", got)
	}
	ends := func(want ...int32) {
		t.Helper()
		eventually(t, 20*time.Second, "partitions can be read", func() bool {
			list, err := adm.ListEndOffsets(ctx, "x")
			var few *kadm.ShardErrors
			if err != nil && !errors.As(err, &few) {
				return false
			}
			for _, p := range want {
				if o, ok := list.Lookup("x", p); !ok || o.Err != nil || o.Offset != acked[p] {
					return false
				}
			}
			return true
		})
	}
	ends(inA, inB)
	n.Kill()
	n.Start()
	ends(inA, inB)

	// The disk is not mounted any more: what lies on it is offline and is not made anew.
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	hideB()
	n.Start()
	ends(inA)
	if err := put(inA); err != nil {
		t.Errorf("without b: %v", err)
	}
	if err := put(inB); err == nil {
		t.Error("a record was taken for a partition whose disk is not there")
	}
	if got := dirs(); !errors.Is(got[b].Err, kerr.KafkaStorageError) || got[a].Err != nil {
		t.Errorf("without b: %+v", got)
	}
	if entries, err := os.ReadDir(b); err != nil || len(entries) > 0 {
		t.Errorf("the mount point has %v, %v", entries, err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	showB()
	n.Start()
	ends(inA, inB)
	if out, code := node.Run(t, nil, "up", "--data", filepath.Join(root, "other"), "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", "log.dirs="+b); code != 3 || !strings.Contains(out, "cluster") {
		t.Errorf("another node on b: exit code %d\n%s", code, out)
	}
}
