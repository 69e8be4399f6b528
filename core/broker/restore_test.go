package broker

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// written is a backup after a way through its file.
func written(t testing.TB, k *Backup, err error) *Backup {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeBackup(b)
	if err != nil {
		t.Fatal(err)
	}
	if again.Sum != k.Sum || !bytes.Equal(metadata.EncodeImage(again.Image), metadata.EncodeImage(k.Image)) {
		t.Fatal("a backup is another one after a way through its file")
	}
	return again
}

// TestRestoreANode: a node's metadata is founded anew from a backup, on its own data, however often the restoration is broken off; and not
// when the data is not what the backup tells of.
func TestRestoreANode(t *testing.T) {
	mem := vfs.NewMemory()
	run := func(do func(*node)) {
		t.Helper()
		n := start(t, Options{DataDir: "/data", FS: mem})
		do(n)
		n.end(t)
	}
	var id kadm.TopicID
	topicID := func(n *node) kadm.TopicID {
		t.Helper()
		topics, err := kadm.NewClient(n.client(t)).ListTopics(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		return topics["t"].ID
	}
	var online *Backup
	run(func(n *node) {
		createTopic(t, n, "t", 1)
		produce(t, n.client(t), "t", 0, 50)
		id = topicID(n)
		k, err := n.Backup(t.Context())
		online = written(t, k, err)
	})
	disk := Stopped{FS: mem, DataDir: "/data"}
	old, err := BackupStopped(disk)
	old = written(t, old, err)
	run(func(n *node) { produce(t, n.client(t), "t", 50, 60) })
	refused := func(words string, o RestoreOptions) {
		t.Helper()
		if o.FS == nil {
			o.Stopped = disk
		}
		r, err := Restore(o)
		if err == nil || !strings.Contains(err.Error(), words) || r != nil && r.Done {
			t.Errorf("%v, not %q", err, words)
		}
	}
	refused("other records", RestoreOptions{Backups: []*Backup{old}})
	refused("none of the backups tells", RestoreOptions{Backups: []*Backup{online}, AcceptLoss: true})
	other := *online
	other.ClusterID = "other"
	refused("different clusters", RestoreOptions{Backups: []*Backup{old, &other}})
	refused("it belongs to cluster", RestoreOptions{Backups: []*Backup{&other}, AcceptLoss: true})
	other = *online
	other.Restored = "x"
	refused("before and after", RestoreOptions{Backups: []*Backup{old, &other}})
	refused("nothing to restore", RestoreOptions{Stopped: Stopped{FS: mem, DataDir: "/empty"}, Backups: []*Backup{old}})
	refused("may be missing", RestoreOptions{Stopped: Stopped{FS: mem, DataDir: "/empty"}, Backups: []*Backup{online}, NodeID: 5})

	// Metadata from before the node's last start is that of a copy that was put back.
	before := *old
	if _, surveys, err := chosen([]*Backup{online, &before}); err != nil || surveys[0].TailLost {
		t.Errorf("%+v, %v", surveys, err)
	}
	before.Index = uint64(online.Image.Nodes[1].Epoch) - 1
	if _, surveys, err := chosen([]*Backup{online, &before}); err != nil || !surveys[0].TailLost {
		t.Errorf("%+v, %v", surveys, err)
	}

	k, err := BackupStopped(disk)
	k = written(t, k, err)
	if k.Survey == nil || len(k.Survey.Logs) != 1 || k.Survey.Logs[0].End != 60 || k.Index <= online.Index {
		t.Fatalf("%+v", k.BackupHead)
	}
	o := RestoreOptions{Stopped: disk, Backups: []*Backup{online, k}}
	tries := 0
	for broken := errors.New("broken off"); ; tries++ {
		fault := vfs.NewFault(mem)
		for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpRename, vfs.OpSync, vfs.OpSyncDir, vfs.OpMkdir, vfs.OpRemove} {
			fault.Inject(vfs.Rule{Op: op, After: tries / 4, Err: broken})
		}
		o.FS = fault
		r, err := Restore(o)
		if err == nil && r.Done {
			if tries == 0 {
				t.Error("nothing was broken off")
			}
			break
		}
		if !errors.Is(err, broken) && !strings.Contains(err.Error(), broken.Error()) {
			t.Fatal(err)
		}
		if tries > 400 {
			t.Fatal("it never ends")
		}
	}
	t.Logf("broken off %d times", tries)
	run(func(n *node) {
		inOrder(t, consume(t, n, "t", 60), 60)
		if now := topicID(n); now != id {
			t.Errorf("the topic's id is %v and was %v", now, id)
		}
		if n.ClusterID() != k.ClusterID {
			t.Errorf("cluster %s was %s", n.ClusterID(), k.ClusterID)
		}
		produce(t, n.client(t), "t", 60, 70)
	})
	// It is done, and stays so: nobody goes back by running it again.
	o.Stopped = disk
	if r, err := Restore(o); err != nil || !r.Done {
		t.Errorf("%+v, %v", r, err)
	}
	refused("before and after", RestoreOptions{Backups: []*Backup{k, func() *Backup { k, err := BackupStopped(disk); return written(t, k, err) }()}})
	run(func(n *node) { inOrder(t, consume(t, n, "t", 70), 70) })
}

// TestSurvey: what a stopped node has is found in all its log directories, and it is said when it may not be all.
func TestSurvey(t *testing.T) {
	mem := vfs.NewMemory()
	n := start(t, Options{DataDir: "/data", FS: mem, Set: map[string]string{"log.dirs": "/a,/b"}, Durability: commitlog.Relaxed, BootID: "one"})
	createTopic(t, n, "t", 4)
	for p := range int32(4) {
		cl := n.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: p, Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	n.end(t)
	survey := func(boot string, lost bool, logs int) {
		t.Helper()
		k, err := BackupStopped(Stopped{FS: mem, DataDir: "/data", BootID: boot})
		if err != nil {
			t.Fatal(err)
		}
		if k.Survey.TailLost != lost || len(k.Survey.Logs) != logs {
			t.Errorf("%+v, not %v with %d logs", k.Survey, lost, logs)
		}
		for _, l := range k.Survey.Logs {
			if l.Failed == "" && (l.End != 1 || l.LastEpoch < 0) {
				t.Errorf("%+v", l)
			}
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := mem.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	survey("two", false, 4) // it ended in good order
	remove("/a/clean-shutdown")
	survey("one", false, 4) // its page cache was not lost
	survey("two", true, 4)
	remove("/b/meta.properties")
	survey("one", true, 2)
}

// A byte that is not as it was written is found before anything is made of it.
func TestBackupIsChecked(t *testing.T) {
	image, _ := metadata.Apply(metadata.NewImage(), 1, &metadata.SetClusterID{ID: "c"})
	b, err := (&Backup{BackupHead: BackupHead{ClusterID: "c", Node: 1}, Image: image}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for at := range b {
		bad := slices.Clone(b)
		bad[at] ^= 1
		if _, err := DecodeBackup(bad); err == nil {
			t.Errorf("byte %d may be another", at)
		}
		if _, err := DecodeBackup(b[:at]); err == nil {
			t.Errorf("it may end after %d bytes", at)
		}
	}
	newer := slices.Clone(b)
	newer[len(backupMagic)] = backupVersion + 1
	if _, err := DecodeBackup(newer); !errors.Is(err, metadata.ErrVersion) {
		t.Error(err)
	}
}

func FuzzDecodeBackup(f *testing.F) {
	image, _ := metadata.Apply(metadata.NewImage(), 1, &metadata.SetClusterID{ID: "c"})
	for _, k := range []Backup{
		{BackupHead: BackupHead{ClusterID: "c", Node: 1}, Image: image},
		{BackupHead: BackupHead{ClusterID: "c", Node: 2, Survey: &metadata.Survey{Node: 2, Logs: []metadata.LogEnd{{Topic: "t", End: 3}}}}},
	} {
		b, err := k.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[len(backupMagic)+1 : len(b)-len(k.Sum)])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		// The sum is made right, so that what lies behind it is reached.
		b, err := DecodeBackup(sealed(body))
		if err != nil {
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeBackup(again); err != nil {
			t.Fatal(err)
		}
		if b.Image != nil {
			surveys := []metadata.Survey{}
			if b.Survey != nil {
				surveys = append(surveys, *b.Survey)
			}
			_, _ = metadata.Restore(b.Image, b.Index+1, "r", b.Node, surveys) // whatever it is, it ends
		}
	})
}
