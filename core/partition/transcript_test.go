package partition

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestTranscripts runs testdata/*.txt against node 1's replica of t-0 in relaxed durability, where
// the log's own end is durable at once: a command, "----", and what it came to, up to an empty line.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := newScript(t).run(string(in))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(in) {
				t.Errorf("%s differs; got:\n%s\nRun with -update and read the diff.", f, got)
			}
		})
	}
}

type script struct {
	t       *testing.T
	fs      vfs.FS
	p       *Partition
	state   metadata.Partition
	out     strings.Builder
	waiter  *Waiter
	cancels map[string]func()
	min     int
}

func newScript(t *testing.T) *script {
	s := &script{t: t, fs: vfs.NewMemory(), waiter: NewWaiter(), cancels: map[string]func(){}, min: 2}
	s.state = metadata.Partition{Topic: "t", Replicas: []metadata.NodeID{1, 2, 3}, ISR: []metadata.NodeID{1, 2}, Leader: 1}
	s.open()
	return s
}

func (s *script) open() {
	syncer := commitlog.NewSyncer(1, nil)
	s.t.Cleanup(syncer.Close)
	p, err := Open(Options{
		Node: 1, State: &s.state, MinISR: s.min,
		Open: func(advanced func()) (*commitlog.Log, error) {
			return commitlog.Open(commitlog.Options{FS: s.fs, Dir: "/t-0", Name: "t-0", Durability: commitlog.Relaxed, Syncer: syncer, Advanced: advanced, BootID: "b"})
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	p.Watch(s.waiter)
	s.p = p
}

func (s *script) run(text string) string {
	for _, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		head, _, _ := strings.Cut(block, "\n----")
		s.out.WriteString(head + "\n")
		lines := strings.Split(head, "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "#") {
			s.out.WriteString("----\n")
			s.step(last)
			select {
			case <-s.waiter.C:
				s.say("waiter woken")
			default:
			}
		}
		s.out.WriteString("\n")
	}
	return strings.TrimRight(s.out.String(), "\n") + "\n"
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func ids(list string) (out []metadata.NodeID) {
	for _, f := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		n, _ := strconv.Atoi(f)
		out = append(out, metadata.NodeID(n))
	}
	return out
}

func (s *script) step(line string) {
	fields := strings.Fields(line)
	args := map[string]string{}
	for _, f := range fields[1:] {
		k, v, _ := strings.Cut(f, "=")
		args[k] = v
	}
	num := func(k string, def int64) int64 {
		if args[k] == "" {
			return def
		}
		n, err := strconv.ParseInt(args[k], 10, 64)
		if err != nil {
			s.t.Fatal(line, err)
		}
		return n
	}
	switch fields[0] {
	case "append":
		b := record.NewBuilder()
		for i := range num("n", 1) {
			b.Append(num("ts", 1000)+i, nil, []byte("v"))
		}
		if args["txn"] != "" {
			b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Attributes = num("txn", 0), 0, int32(num("seq", 0)), record.Transactional
		}
		bytes, err := b.Bytes()
		if err != nil {
			s.t.Fatal(err)
		}
		a, err := s.p.Append(bytes, int32(num("epoch", -1)), commitlog.FromClient, args["acks"] == "all")
		if err != nil {
			s.say("error: %v", err)
			return
		}
		s.say("offsets %d to %d", a.Base, a.Last)
	case "marker":
		k := record.Abort
		if args["commit"] == "yes" {
			k = record.Commit
		}
		b := record.EndTxn(num("txn", 0), 0, record.Marker{Type: k}, 1000)
		a, err := s.p.Append(b, -1, commitlog.FromCoordinator, false)
		s.say("offset %d %v", a.Base, err)
	case "wait":
		name := args["offset"]
		s.cancels[name] = s.p.WhenAcked(num("offset", 0), int32(num("epoch", int64(AnyEpoch))), func(err error) { s.say("acked %s: %v", name, err) })
	case "cancel":
		s.cancels[args["offset"]]()
	case "change":
		s.state.PartitionEpoch++
		if args["isr"] != "" {
			s.state.ISR = ids(args["isr"])
		}
		for k, list := range map[string]*[]metadata.NodeID{"replicas": &s.state.Replicas, "adding": &s.state.Adding, "removing": &s.state.Removing} {
			if v, ok := args[k]; ok {
				*list = ids(strings.Trim(v, "-"))
			}
		}
		s.state.Leader = metadata.NodeID(num("leader", int64(s.state.Leader)))
		s.state.LeaderEpoch = metadata.Epoch(num("epoch", int64(s.state.LeaderEpoch)))
		s.min = int(num("min", int64(s.min)))
		state := s.state
		s.p.Update(&state, s.min)
	case "stale": // an agreed state from before the last change
		state := s.state
		state.PartitionEpoch--
		state.Leader, state.LeaderEpoch = 3, 99
		s.p.Update(&state, s.min)
	case "fetch":
		r, err := s.p.Read(ReadRequest{
			Offset: num("offset", 0), Epoch: int32(num("epoch", -1)), LastEpoch: int32(num("last", -1)), MaxBytes: int(num("max", 1<<20)),
			MinOne: true, Committed: args["committed"] == "yes", Replica: metadata.NodeID(num("node", -1)),
		})
		if err != nil {
			what := err.Error()
			if errors.Is(err, commitlog.ErrOffsetOutOfRange) {
				what = "out of range"
			}
			s.say("error: %s", what)
			return
		}
		end := int64(-1)
		if r.Slice.Len > 0 {
			end = sliceEnd(&r.Slice)
		}
		s.say("up to %d, hw %d lso %d start %d aborted %v", end, r.HighWatermark, r.LastStable, r.LogStart, r.Aborted)
		if r.Diverging != nil {
			s.say("diverging: epoch %d ends at %d", r.Diverging.Epoch, r.Diverging.EndOffset)
		}
		r.Slice.Release()
	case "list":
		bound := ToWatermark
		if args["committed"] == "yes" {
			bound = ToStable
		}
		o, ts, e, err := s.p.ListOffset(num("ts", -1), int32(num("epoch", -1)), bound)
		s.say("offset %d ts %d epoch %d %v", o, ts, e, err)
	case "deletebefore":
		start, err := s.p.DeleteBefore(num("offset", -1))
		if errors.Is(err, commitlog.ErrOffsetOutOfRange) {
			s.say("out of range")
			return
		}
		s.say("start %d %v", start, err)
	case "show":
		leading, epoch := s.p.Leader()
		s.say("leading %v epoch %d isr %v hw %d lso %d end %d", leading, epoch, s.p.ISR(), s.p.HighWatermark(), s.p.LastStable(), s.p.Log().EndOffset())
	case "restart":
		s.p.Close()
		if err := s.p.Log().Close(); err != nil {
			s.t.Fatal(err)
		}
		s.open()
	default:
		s.t.Fatalf("unknown verb in %q", line)
	}
}
