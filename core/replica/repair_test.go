package replica

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// hurt is a house with a partition t-0 of nodes 1 and 2 whose log here has several segments; the second is damaged.
type hurt struct {
	*house
	epochs int   // that were asked for
	begins int64 // the leader's log
}

func newHurt(t *testing.T, fsys vfs.FS) *hurt {
	x := &hurt{house: &house{t: t, fs: fsys, image: metadata.NewImage(), durability: commitlog.Relaxed}}
	x.settings = func(_ *metadata.Image, s *topicSettings) { s.Log.SegmentBytes = 200 }
	x.following = Following{Dial: noDialing, NewEpoch: func(_ context.Context, p *metadata.Partition) error {
		x.epochs++
		x.apply(&metadata.ChangePartition{Topic: p.TopicID, Number: p.Number, Expected: p.PartitionEpoch, Leader: p.Leader, ISR: p.ISR, NewEpoch: true})
		return nil
	}}
	x.apply(&metadata.SetFeatures{Levels: map[string]int16{metadata.FeatureELR: 1}})
	x.apply(&metadata.RegisterNode{ID: 1, MinISR: 1})
	x.apply(&metadata.RegisterNode{ID: 2, MinISR: 1})
	x.open()
	x.answer()
	x.start()
	x.create("t", 1, 1, 2)
	for range 12 {
		x.append("t", 0, "a value")
	}
	if len(x.segments()) < 4 {
		t.Fatal("segments:", x.segments())
	}
	return x
}

// newHurtFollower follows node 2, and has read that its second segment is damaged.
func newHurtFollower(t *testing.T, fsys vfs.FS) *hurt {
	t.Helper()
	x := newHurt(t, fsys)
	x.lead(2, 1)
	x.clean = true
	x.damage(1, false)
	if x.read() == nil {
		t.Fatal("nothing is damaged")
	}
	return x
}

// answer has the leader's log begin at x.begins.
func (x *hurt) answer() {
	x.followers.call = func(_ context.Context, _ metadata.NodeID, req kmsg.Request) (kmsg.Response, error) {
		if _, ok := req.(*kmsg.ListOffsetsRequest); !ok {
			return nil, io.EOF
		}
		resp := kmsg.NewPtrListOffsetsResponse()
		rt := kmsg.NewListOffsetsResponseTopic()
		rp := kmsg.NewListOffsetsResponseTopicPartition()
		rp.Offset = x.begins
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil
	}
}

func (x *hurt) segments() (list []string) {
	for _, name := range x.ls("/data/log/t-0") {
		if strings.HasSuffix(name, ".log") {
			list = append(list, name)
		}
	}
	return list
}

// damage closes the Set, flips a byte of segment n and starts it again; with unclean the log is opened at once.
func (x *hurt) damage(n int, unclean bool) {
	x.t.Helper()
	if err := x.Close(); err != nil {
		x.t.Fatal(err)
	}
	name := path.Join("/data/log/t-0", x.segments()[n])
	b, err := vfs.ReadFile(x.fs, name, 1<<20)
	if err == nil {
		b[70] ^= 1
		err = vfs.WriteFile(x.fs, name, b, true)
	}
	if err == nil && unclean {
		err = x.fs.Remove("/data/log/t-0/recovery-point")
		if errors.Is(err, os.ErrNotExist) {
			x.t.Fatal(x.ls("/data/log/t-0"))
		}
	}
	if err != nil {
		x.t.Fatal(err)
	}
	x.open()
	x.answer()
	x.start()
}

func (x *hurt) read() error {
	p, err := x.Partition("t", 0)
	if err != nil {
		return err
	}
	for at := p.Log().StartOffset(); at < p.Log().EndOffset(); at++ {
		s, err := p.Log().Read(at, at+1, 1, true)
		s.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// step does what Run would do once.
func (x *hurt) step(ctx context.Context) { x.Steps(x.followers.call).Repair(ctx) }

// tell has agreed on what the broker would tell.
func (x *hurt) tell() {
	x.t.Helper()
	id := x.state().ID()
	c := &metadata.SetOffline{Node: 1, NodeEpoch: x.image.Nodes[1].Epoch}
	switch off := x.Unavailable(x.image); {
	case len(off) > 0 && !slices.Contains(x.state().Offline, 1):
		c.Offline = off
	case len(off) == 0 && slices.Contains(x.state().Offline, 1):
		c.Online = []metadata.PartitionID{id}
	default:
		return
	}
	x.apply(c)
}

func (x *hurt) state() *metadata.Partition { return x.image.Partition("t", 0) }

// lead makes node 2 the leader.
func (x *hurt) lead(isr ...metadata.NodeID) {
	x.t.Helper()
	p := x.state()
	x.apply(&metadata.ChangePartition{Topic: p.TopicID, Expected: p.PartitionEpoch, Leader: isr[0], ISR: isr})
}

// A damaged follower asks for nothing more, leaves the ISR, waits for a new leader epoch, and only then loses what it had.
func TestADamagedFollower(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	x.lead(2, 1)
	x.clean = true
	x.damage(1, false)
	steps := x.Steps(x.followers.call)
	if steps.Fetch(2) == nil {
		t.Fatal("a sound follower asks its leader")
	}
	if off := x.Unavailable(x.image); len(off) > 0 || x.read() == nil {
		t.Fatal("it is not known before it is read", off)
	}
	if steps.Fetch(2) != nil {
		t.Error("it tells its leader what it has, though it will not have it")
	}
	if err := x.Damaged()["t-0"]; !errors.Is(err, commitlog.ErrCorrupt) {
		t.Error("what is told of it:", err)
	}
	before := x.segments()
	x.step(t.Context())
	if !slices.Equal(x.segments(), before) || x.epochs > 0 {
		t.Fatal("something happens while it is counted on")
	}
	x.tell()
	if p := x.state(); !slices.Equal(p.ISR, []metadata.NodeID{2}) || !slices.Equal(p.Offline, []metadata.NodeID{1}) {
		t.Fatalf("%+v", p)
	}
	x.step(t.Context())
	if !slices.Equal(x.segments(), before) || x.epochs != 1 {
		t.Fatal("it is cut in the epoch in which it told of more: new epochs", x.epochs)
	}
	x.step(t.Context())
	if got := x.segments(); !slices.Equal(got, before[:1]) || x.epochs != 1 {
		t.Fatalf("%v is left of %v", got, before)
	}
	if kept := x.ls("/data/quarantine/t-0.repair-1"); !slices.Equal(kept, before[1:]) {
		t.Errorf("in quarantine: %v", kept)
	}
	x.tell()
	if p := x.state(); len(p.Offline) > 0 || x.read() != nil || len(x.Offline()) > 0 || x.repairs.done.Load() != 1 {
		t.Errorf("%+v, %v, %v", p, x.read(), x.Offline())
	}
	p, err := x.Partition("t", 0)
	if err != nil {
		t.Fatal(err)
	}
	req := steps.Fetch(2)
	if req == nil || req.Topics[0].Partitions[0].FetchOffset != p.Log().EndOffset() || req.Topics[0].Partitions[0].CurrentLeaderEpoch != int32(x.state().LeaderEpoch) {
		t.Errorf("it goes on from %d: %+v", p.Log().EndOffset(), req)
	}
}

// A leader hands its lead to another member of the ISR; with that comes a new epoch.
func TestADamagedLeader(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	x.clean = true
	x.damage(1, false)
	if x.read() == nil {
		t.Fatal("nothing is damaged")
	}
	before := x.segments()
	x.step(t.Context())
	x.tell()
	if p := x.state(); p.Leader != 2 {
		t.Fatalf("%+v", p)
	}
	x.step(t.Context())
	if got := x.segments(); !slices.Equal(got, before[:1]) || x.epochs != 0 {
		t.Errorf("%v is left of %v, new epochs %d", got, before, x.epochs)
	}
}

// What the start finds damaged is told with the registration.
func TestDamageFoundAtTheStart(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	x.lead(2, 1)
	x.damage(1, true)
	if err := x.read(); !errors.Is(err, commitlog.ErrFailed) || !errors.Is(err, commitlog.ErrCorrupt) {
		t.Fatal(err)
	}
	x.apply(&metadata.RegisterNode{ID: 1, MinISR: 1, Offline: x.Unavailable(x.image)})
	if p := x.state(); !slices.Equal(p.ISR, []metadata.NodeID{2}) || !slices.Equal(p.Offline, []metadata.NodeID{1}) {
		t.Fatalf("%+v", p)
	}
	x.step(t.Context())
	x.step(t.Context())
	x.tell()
	if err := x.read(); err != nil || len(x.segments()) != 1 {
		t.Error(err, x.segments())
	}
}

// Nobody else has all that was acknowledged: the replica stays as it is, whatever else is the case.
func TestADamagedReplicaThatIsNeeded(t *testing.T) {
	for name, become := range map[string]func(*hurt){
		"alone in the ISR": func(x *hurt) { x.lead(1) },
		"the other is fenced": func(x *hurt) {
			x.apply(&metadata.FenceNode{ID: 2, Epoch: x.image.Nodes[2].Epoch})
		},
		"nobody leads and it led last": func(x *hurt) {
			x.apply(&metadata.FenceNode{ID: 2, Epoch: x.image.Nodes[2].Epoch})
			x.apply(&metadata.FenceNode{ID: 1, Epoch: x.image.Nodes[1].Epoch})
		},
	} {
		x := newHurt(t, vfs.NewMemory())
		x.clean = true
		x.damage(1, false)
		become(x)
		if x.read() == nil {
			t.Fatal("nothing is damaged")
		}
		before := x.segments()
		for range 3 {
			x.step(t.Context())
			x.tell()
		}
		if len(x.state().Offline) > 0 || !slices.Equal(x.segments(), before) || x.epochs > 0 {
			t.Errorf("%s: %+v, left %v", name, x.state(), x.segments())
		}
		if name == "alone in the ISR" && strings.Count(x.log.String(), "forebay log repair") != 1 {
			t.Errorf("%s: nobody is told what to do: %s", name, x.log.String())
		}
		if name == "the other is fenced" { // it comes back: in the ISR, by what it copied
			x.apply(&metadata.RegisterNode{ID: 2, MinISR: 1})
			x.lead(1, 2)
			x.tell()
			x.step(t.Context())
			if x.state().Leader != 2 || len(x.segments()) != 1 {
				t.Errorf("the other is back: %+v, left %v", x.state(), x.segments())
			}
		}
	}
}

// What makes a replica one that may lose what it has; each condition for itself.
func TestWhoMayLoseWhatHeHas(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	may := metadata.Partition{Replicas: []metadata.NodeID{1, 2}, ISR: []metadata.NodeID{2}, Leader: 2, Offline: []metadata.NodeID{1}}
	if !x.dispensable(&may) {
		t.Error("not even when another leads and it is counted on no more")
	}
	for name, change := range map[string]func(*metadata.Partition){
		"not agreed":   func(p *metadata.Partition) { p.Offline = nil },
		"nobody leads": func(p *metadata.Partition) { p.Leader, p.ISR = -1, nil },
		"leads":        func(p *metadata.Partition) { p.Leader = 1 },
		"in sync":      func(p *metadata.Partition) { p.ISR = []metadata.NodeID{2, 1} },
		"eligible":     func(p *metadata.Partition) { p.ELR = []metadata.NodeID{1} },
	} {
		p := may
		if change(&p); x.dispensable(&p) {
			t.Error(name)
		}
	}
}

// The leader is lost once the files are being changed: the replica stays out until it is repaired, by whoever leads then.
func TestTheLeaderIsLostInTheMiddleOfARepair(t *testing.T) {
	for _, forGood := range []bool{false, true} {
		leaderIsLost(t, forGood)
	}
}

func leaderIsLost(t *testing.T, forGood bool) {
	f := vfs.NewFault(vfs.NewMemory())
	x := newHurtFollower(t, f)
	x.step(t.Context())
	x.tell()
	x.step(t.Context())
	before := x.segments()
	x.apply(&metadata.FenceNode{ID: 2, Epoch: x.image.Nodes[2].Epoch})
	for range 3 {
		x.step(t.Context())
		x.tell()
	}
	if !slices.Equal(x.segments(), before) {
		t.Fatal("it is cut though nobody leads")
	}
	x.apply(&metadata.RegisterNode{ID: 2, MinISR: 1})
	mend := f.Inject(vfs.Rule{Op: vfs.OpRename, Path: "quarantine", Err: io.ErrUnexpectedEOF})
	x.step(t.Context())
	x.apply(&metadata.FenceNode{ID: 2, Epoch: x.image.Nodes[2].Epoch})
	for range 3 {
		x.step(t.Context())
		x.tell()
		if p := x.state(); p.Leader != -1 || !slices.Equal(p.Offline, []metadata.NodeID{1}) {
			t.Fatalf("%+v", p)
		}
	}
	if forGood {
		x.apply(&metadata.RegisterNode{ID: 2, MinISR: 1, TailLost: true, Empty: true})
		x.tell()
		if p := x.state(); p.Leader != -1 || !slices.Equal(p.Offline, []metadata.NodeID{1}) {
			t.Fatalf("the disk of the only one that had all is empty: %+v", p) // an election that may lose records is not to choose half a log
		}
		return
	}
	mend()
	x.apply(&metadata.RegisterNode{ID: 2, MinISR: 1})
	x.step(t.Context())
	x.tell()
	if p := x.state(); p.Leader != 2 || len(p.Offline) > 0 || x.read() != nil || len(x.segments()) != 1 {
		t.Errorf("%+v, left %v, %v", p, x.segments(), x.read())
	}
}

// A node that dies in the middle of a repair does it again when it is back.
func TestARepairAfterACrash(t *testing.T) {
	f := vfs.NewFault(vfs.NewMemory())
	x := newHurtFollower(t, f)
	before := x.segments()
	x.step(t.Context())
	x.tell()
	x.step(t.Context())
	calls := 0
	f.Hook(func(op vfs.Op, name string) {
		if op == vfs.OpRename && strings.Contains(name, ".log") {
			if calls++; calls == 2 {
				panic("killed")
			}
		}
	})
	func() {
		defer func() { _ = recover() }()
		x.step(t.Context())
	}()
	f.Hook(nil)
	if calls != 2 || len(x.segments()) != len(before)-1 {
		t.Fatalf("%d files were moved, left %v", calls, x.segments())
	}
	x.clean = false
	x.open()
	x.answer()
	x.start()
	if x.read() == nil {
		t.Fatal("half a repair is served")
	}
	x.apply(&metadata.RegisterNode{ID: 1, MinISR: 1, Offline: x.Unavailable(x.image)})
	x.step(t.Context())
	x.step(t.Context())
	x.tell()
	if p := x.state(); len(p.Offline) > 0 || x.read() != nil || !slices.Equal(x.segments(), before[:1]) {
		t.Errorf("%+v, left %v, %v", p, x.segments(), x.read())
	}
}

// A topic that is deleted and made anew in the middle of a repair keeps nothing of it.
func TestATopicIsDeletedInTheMiddleOfARepair(t *testing.T) {
	f := vfs.NewFault(vfs.NewMemory())
	x := newHurtFollower(t, f)
	x.step(t.Context())
	x.tell()
	x.step(t.Context())
	reached, goOn := make(chan struct{}), make(chan struct{})
	once := false
	f.Hook(func(op vfs.Op, name string) {
		if op == vfs.OpRead && strings.HasSuffix(name, ".log") && !once {
			once = true
			close(reached)
			<-goOn
		}
	})
	stepped := make(chan struct{})
	go func() { defer close(stepped); x.step(t.Context()) }()
	select {
	case <-reached:
	case <-stepped:
		t.Fatal("no repair has begun")
	}
	x.apply(&metadata.DeleteTopics{IDs: []metadata.TopicID{x.state().TopicID}})
	removed := make(chan struct{})
	go func() { defer close(removed); x.finishRemovals() }()
	close(goOn)
	<-stepped
	<-removed
	x.create("t", 1, 1, 2)
	x.append("t", 0, "new")
	x.step(t.Context())
	if end := x.end("t", 0); end != 1 || x.read() != nil || len(x.Unavailable(x.image)) > 0 || x.repairs.count() > 0 {
		t.Errorf("ends at %d, %v; damaged %d", end, x.read(), x.repairs.count())
	}
}

// What is damaged below the leader's log start goes, and nothing else.
func TestDamageBelowTheLeadersLogStart(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	x.lead(2, 1)
	x.clean = true
	x.damage(0, false)
	end := x.end("t", 0)
	if x.read() == nil {
		t.Fatal("nothing is damaged")
	}
	before := x.segments()
	begins, err := strconv.ParseInt(strings.TrimSuffix(before[1], ".log"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	x.begins = begins
	x.step(t.Context())
	x.tell()
	x.step(t.Context())
	x.step(t.Context())
	x.tell()
	if !slices.Equal(x.segments(), before[1:]) || x.end("t", 0) != end || x.read() != nil {
		t.Errorf("left %v of %v, ends at %d of %d, %v", x.segments(), before, x.end("t", 0), end, x.read())
	}
}

// A member of the ISR whose folder does not say any more whose it is does not begin anew, empty: as a leader it would have others cut back to that. It stands
// aside like one whose log is damaged, and the folder goes then.
func TestADamagedOwnerFile(t *testing.T) {
	const name = "/data/log/t-0/" + ownerFile
	for what, harm := range map[string]func(b []byte) []byte{
		"garbage": func([]byte) []byte { return []byte("version: 7") },
		"gone":    func([]byte) []byte { return nil },
		"another name": func(b []byte) []byte {
			was := b[len(b)-2]
			if b[len(b)-2] = '0'; was == '0' {
				b[len(b)-2] = '1'
			}
			return b
		},
	} {
		for _, clean := range []bool{true, false} {
			x := newHurt(t, vfs.NewMemory())
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := vfs.ReadFile(x.fs, name, 1<<10)
			if err != nil {
				t.Fatal(err)
			}
			if b = harm(b); b == nil {
				err = x.fs.Remove(name)
			} else {
				err = vfs.WriteFile(x.fs, name, b, true)
			}
			if err != nil {
				t.Fatal(err)
			}
			x.clean = clean
			x.open()
			x.answer()
			x.start()
			if err := x.read(); !errors.Is(err, commitlog.ErrCorrupt) {
				t.Fatalf("%s, clean %v: it is a member of the ISR that has nothing: %v", what, clean, err)
			}
			if len(x.segments()) == 0 || len(x.ls("/data/quarantine")) > 0 {
				t.Fatalf("%s: it was set aside already: %v", what, x.ls("/data/quarantine"))
			}
			x.tell()
			x.step(t.Context())
			x.step(t.Context())
			x.tell()
			if p := x.state(); p.Leader != 2 || len(p.Offline) > 0 || x.end("t", 0) != 0 {
				t.Errorf("%s: %+v, ends at %d", what, p, x.end("t", 0))
			}
			if list := x.ls("/data/quarantine"); !slices.Equal(list, []string{"t-0"}) {
				t.Errorf("%s: in quarantine: %v", what, list)
			}
		}
	}
}

// A replica whose log cannot be opened, as the disk does not give it, is led by another one until it can be.
func TestALogThatCannotBeOpened(t *testing.T) {
	f := vfs.NewFault(vfs.NewMemory())
	x := newHurt(t, f)
	again := func() {
		t.Helper()
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		x.open()
		x.answer()
		x.start()
	}
	remove := f.Inject(vfs.Rule{Op: vfs.OpReadDir, Path: "/data/log/t-0", Err: syscall.EIO})
	again()
	if _, err := x.Partition("t", 0); !errors.Is(err, commitlog.ErrFailed) {
		t.Fatal(err)
	}
	x.tell()
	if p := x.state(); p.Leader != 2 || slices.Contains(p.ISR, 1) || len(x.Damaged()) > 0 {
		t.Errorf("%+v", p)
	}
	remove()
	again()
	if _, err := x.Partition("t", 0); err != nil {
		t.Fatal(err)
	}
	if x.tell(); len(x.state().Offline) > 0 {
		t.Errorf("it is there again: %+v", x.state())
	}
}

// A replica whose log has failed without a fault of the disk, as one that could not be cut back on a full one, is led by another one, and not marked as clean at the end.
func TestALogThatHasFailed(t *testing.T) {
	f := vfs.NewFault(vfs.NewMemory())
	x := newHurt(t, f)
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpTruncate} {
		defer f.Inject(vfs.Rule{Op: op, Path: ".log", Err: syscall.ENOSPC})()
	}
	if _, err := appendTo(x.house, "t", 0); !errors.Is(err, commitlog.ErrFailed) {
		t.Fatal(err)
	}
	select {
	case <-x.UnavailableChanged():
	default:
		t.Error("nobody is told")
	}
	x.tell()
	if p := x.state(); p.Leader != 2 || slices.Contains(p.ISR, 1) || len(x.Damaged()) > 0 {
		t.Errorf("%+v", p)
	}
	if err := x.Close(); !errors.Is(err, commitlog.ErrFailed) {
		t.Errorf("it closes as if all were well: %v", err)
	}
}

// A replica whose log takes no writes stands aside when somebody else has come into sync, if nobody was when it was found out.
func TestSomebodyComesIntoSyncLater(t *testing.T) {
	for _, opened := range []bool{true, false} {
		f := vfs.NewFault(vfs.NewMemory())
		x := newHurt(t, f)
		x.lead(1)
		if opened {
			for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpTruncate} {
				f.Inject(vfs.Rule{Op: op, Path: ".log", Err: syscall.ENOSPC})
			}
			if _, err := appendTo(x.house, "t", 0); !errors.Is(err, commitlog.ErrFailed) {
				t.Fatal(err)
			}
		} else {
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			f.Inject(vfs.Rule{Op: vfs.OpReadDir, Path: "/data/log/t-0", Err: syscall.EIO})
			x.open()
			x.answer()
			x.start()
		}
		<-x.UnavailableChanged()
		if x.tell(); x.state().Leader != 1 {
			t.Fatalf("opened %t: nobody can take over from it: %+v", opened, x.state())
		}
		x.lead(1, 2)
		select {
		case <-x.UnavailableChanged():
		default:
			t.Errorf("opened %t: nobody is told", opened)
		}
		if x.tell(); x.state().Leader != 2 || slices.Contains(x.state().ISR, 1) {
			t.Errorf("opened %t: %+v", opened, x.state())
		}
	}
}
