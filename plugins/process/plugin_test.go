package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/plugins/process/frame"
	"github.com/forebayhub/forebay/plugins/process/internal/convert"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// asPlugin makes this program a plugin when it is started as one: its last argument says how it behaves.
func asPlugin() bool {
	if os.Getenv(CookieKey) == "" {
		return false
	}
	how := os.Args[len(os.Args)-1]
	switch how {
	case "bench":
		serveBench()
	case "silent":
		fmt.Fprintln(os.Stderr, "cannot find my glasses")
		os.Exit(3)
	case "deaf": // it does not look at its standard input
		fmt.Println("no handshake")
		select {}
	case "from the future":
		fmt.Println("1|2|unix|/nowhere|grpc")
		select {}
	case "over tcp":
		fmt.Println("1|1|tcp|127.0.0.1:1|grpc")
		select {}
	case "with a certificate": // by which go-plugin would be brought down
		fmt.Println("1|1|tcp|127.0.0.1:1|grpc|" + strings.Repeat("MIIB", 100))
		select {}
	}
	dir := os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		panic(err)
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	pb.RegisterPluginServer(g, &naughty{how: how})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		g.Stop()
	}()
	fmt.Printf("1|1|unix|%s|grpc\n", l.Addr())
	_ = g.Serve(l)
	return true
}

// naughty is a plugin that does what it should not.
type naughty struct {
	pb.UnimplementedPluginServer
	how string
}

func (n *naughty) Describe(context.Context, *pb.DescribeRequest) (*pb.Description, error) {
	k := &pb.Kind{Doc: "naughty", Delivery: pb.Delivery_EXACTLY_ONCE, Fields: []*pb.Field{{Name: "password", Type: pb.Field_SECRET, Doc: "a secret"}}}
	switch n.how {
	case "nothing":
		return &pb.Description{}, nil
	case "a field without a name":
		k.Fields = []*pb.Field{{Doc: "x"}}
	case "a field of no type":
		k.Fields = []*pb.Field{{Name: "x", Type: 99, Doc: "x"}}
	case "an enum of nothing":
		k.Fields = []*pb.Field{{Name: "x", Type: pb.Field_ENUM, Doc: "x"}}
	case "a split for all hosts", "a split for no host":
		k.HostBound = true
	}
	return &pb.Description{Source: k, Sink: k}, nil
}

func (n *naughty) Check(_ context.Context, c *pb.Config) (*pb.Findings, error) {
	if n.how == "refuses" {
		return &pb.Findings{Failure: &pb.Failure{Message: "nothing suits me"}}, nil
	}
	return &pb.Findings{}, nil
}

// Validate tells what it got.
func (n *naughty) Validate(_ context.Context, c *pb.Config) (*pb.Findings, error) {
	secret := c.GetValues()[0].GetText()
	fmt.Fprintf(os.Stderr, "asked to validate %s\n", secret)
	return &pb.Findings{Findings: []*pb.Finding{{Message: fmt.Sprintf("%x", secret)}, {Message: "not " + secret, Hint: strings.Join(append(os.Environ(), os.Args...), "\n"), Path: strconv.Itoa(os.Getpid())}}}, nil
}

func (n *naughty) Plan(_ context.Context, r *pb.PlanRequest) (*pb.Splits, error) {
	switch n.how {
	case "a split for all hosts":
		return &pb.Splits{Splits: []*pb.Split{{Id: "files", Host: r.GetConfig().GetHost()}}}, nil
	case "a split for no host":
		return &pb.Splits{Splits: []*pb.Split{{Id: "files-" + r.GetConfig().GetHost()}}}, nil
	}
	return &pb.Splits{Splits: []*pb.Split{{Id: "a"}, {Id: "a"}}}, nil
}

func (n *naughty) Topics(context.Context, *pb.Config) (*pb.TopicSpecs, error) {
	return &pb.TopicSpecs{Topics: []*pb.TopicSpec{{Name: "__x"}}}, nil
}

func (n *naughty) Source(stream grpc.BidiStreamingServer[pb.ToSource, pb.FromSource]) error {
	if n.how == "ends without a word" {
		return nil
	}
	send := func(p []byte) {
		_ = stream.Send(&pb.FromSource{Message: &pb.FromSource_Frame{Frame: p}})
	}
	if n.how == "frames first" {
		send([]byte("x"))
	}
	_ = stream.Send(&pb.FromSource{Message: &pb.FromSource_Opened{Opened: &pb.Done{}}})
	switch n.how {
	case "garbage":
		send([]byte("garbage"))
	case "a huge message":
		send(make([]byte, maxMessage+1))
	case "fatal":
		_ = stream.Send(&pb.FromSource{Message: &pb.FromSource_Failure{Failure: &pb.Failure{Message: "the slot is gone", Fatal: true, Hint: "make another"}}})
	case "may pass":
		_ = stream.Send(&pb.FromSource{Message: &pb.FromSource_Failure{Failure: &pb.Failure{Message: "try again"}}})
	case "dies":
		fmt.Fprintln(os.Stderr, "out of luck")
		os.Exit(7)
	}
	for {
		if _, err := stream.Recv(); err != nil {
			n.cling()
			return nil //nolint:nilerr // the host has closed its side
		}
	}
}

// cling goes on with a task that was told to end.
func (n *naughty) cling() {
	if n.how == "clings" {
		select {}
	}
}

func (n *naughty) Sink(stream grpc.BidiStreamingServer[pb.ToSink, pb.FromSink]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			n.cling()
			return nil //nolint:nilerr // the host has closed its side
		}
		answer := &pb.FromSink{Ask: m.GetAsk(), Message: &pb.FromSink_Done{Done: &pb.Done{}}}
		switch {
		case m.GetCommit() != nil && n.how == "hangs in a commit":
			fmt.Fprintln(os.Stderr, "committing")
			select {}
		case m.GetWrite() != nil && n.how != "answers wrong":
			if n.how == "answers late" {
				answer.Ask--
			}
			answer.Message = &pb.FromSink_Written{Written: &pb.Written{Rejects: n.rejects(m.GetWrite().GetFrame())}}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// rejects tells where the records of a frame lie, as reasons.
func (n *naughty) rejects(p []byte) (out []*pb.Reject) {
	switch n.how {
	case "rejects what is not there":
		return []*pb.Reject{{Index: 9}}
	case "rejects twice":
		return []*pb.Reject{{}, {}}
	}
	b, d := connectors.NewBatch(1<<20), frame.NewDecoder()
	d.Feed(p)
	if err := d.Fill(b); err != nil {
		panic(err)
	}
	for i := range b.Records {
		r := &b.Records[i]
		out = append(out, &pb.Reject{Index: uint32(i), Reason: fmt.Sprint(r.Partition, r.Offset, r.Place(), len(r.RawValue))})
	}
	return out
}

// self is this program as a plugin that behaves so.
func self(t testing.TB, how string) Options {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Name: "naughty", Command: []string{path, how}, Env: []string{"GORACE"}}
}

// open starts a task of a source that behaves so.
func open(t *testing.T, how string) (connectors.SourceTask, error) {
	t.Helper()
	source, _, _ := describe(t, self(t, how))
	s, err := source.New(valuesOf(t, source.Spec, nil), envOf(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	task := s.Task(connectors.Split{ID: "x"})
	t.Cleanup(func() { _ = task.Close() })
	return task, task.Open(t.Context(), nil)
}

func TestWhatIsNoPlugin(t *testing.T) {
	sum := strings.Repeat("0", 64)
	pinned := self(t, "garbage")
	pinned.SHA256 = []string{sum}
	missing := Options{Name: "naughty", Command: []string{"/no/such/program"}}
	for how, c := range map[string]struct {
		o    Options
		want string
	}{
		"silent":                  {want: "exit status 3; its last words: cannot find my glasses"},
		"deaf":                    {want: `says "no handshake" where a plugin says how it is reached`},
		"from the future":         {want: "speaks version 2 of the plugin protocol, and this forebay version 1"},
		"over tcp":                {want: "serves grpc over tcp; only grpc over a unix socket is taken"},
		"with a certificate":      {want: "serves grpc over tcp"},
		"nothing":                 {want: "is neither a source nor a sink"},
		"a field without a name":  {want: `"" cannot be a field's name`},
		"a field of no type":      {want: "is of an unknown type, 99"},
		"an enum of nothing":      {want: "is an enum of nothing"},
		"another than was pinned": {o: pinned, want: "no file of its command has the checksum " + sum},
		"not there":               {o: missing, want: "cannot be started"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			if c.o.Name == "" {
				c.o = self(t, how)
			}
			p := New(c.o)
			defer p.Close()
			if _, _, err := p.Describe(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

func TestPinned(t *testing.T) {
	o := self(t, "garbage")
	sum, err := sumOf(o.Command[0])
	if err != nil {
		t.Fatal(err)
	}
	o.SHA256 = []string{strings.ToUpper(sum)}
	describe(t, o)
}

func TestSourceThatMisbehaves(t *testing.T) {
	for how, c := range map[string]struct {
		want  string
		fatal bool
	}{
		"ends without a word": {"has ended a task without a word", true},
		"frames first":        {"sends records before it has opened", true},
		"garbage":             {"a damaged frame", true},
		"a huge message":      {"larger than max", true},
		"fatal":               {"the slot is gone", true},
		"may pass":            {"try again", false},
		"dies":                {"plugin naughty has ended: exit status 7; its last words: out of luck", false},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			task, err := open(t, how)
			for b := connectors.NewBatch(1 << 20); err == nil; b.Reset() {
				err = task.Read(t.Context(), b)
			}
			if !strings.Contains(err.Error(), c.want) || connectors.IsFatal(err) != c.fatal {
				t.Errorf("%v (fatal %v); want %q (%v)", err, connectors.IsFatal(err), c.want, c.fatal)
			}
			if f := (*connectors.FatalError)(nil); how == "fatal" && (!errors.As(err, &f) || f.Hint != "make another") {
				t.Errorf("the hint of %+v is lost", err)
			}
		})
	}
}

func TestSinkThatMisbehaves(t *testing.T) {
	for how, want := range map[string]string{"answers wrong": "it answers", "answers late": "it answers question 2 with an answer to 1", "rejects what is not there": "it rejects record 9 of 1", "rejects twice": "it rejects 2 of 1 records"} {
		_, sink, _ := describe(t, self(t, how))
		task := openSink(t, sink, envOf(t, "x"))
		if _, err := task.Write(t.Context(), []connectors.Record{{Topic: "t", RawValue: []byte("v")}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", how, err)
		}
		_ = task.Close()
	}
}

// openSink starts a task of a sink.
func openSink(t *testing.T, sink *connectors.SinkType, env connectors.Env) *sinkTask {
	t.Helper()
	s, err := sink.New(valuesOf(t, sink.Spec, map[string]string{"topics": "t"}), env)
	if err != nil {
		t.Fatal(err)
	}
	task := s.Task(connectors.SinkEnv{Env: env, Alive: func() error { return nil }}).(*sinkTask)
	if err := task.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return task
}

// TestReplaysSayWhereTheyLie: a dead letter that is played again has coordinates of its own, as for sinks that are compiled in.
func TestReplaysSayWhereTheyLie(t *testing.T) {
	_, sink, _ := describe(t, self(t, "tells places"))
	task := openSink(t, sink, envOf(t, "x"))
	rejects, err := task.Write(t.Context(), []connectors.Record{
		{Topic: "t", Partition: connectors.ReplayPartition + 3, Offset: 5, RawValue: []byte("v"), From: &connectors.Place{Partition: 3, Offset: 42}},
		{Topic: "t", Partition: connectors.ReplayPartition + 3, Offset: 6, RawValue: []byte("v")},
	})
	if err != nil || len(rejects) != 2 || rejects[0].Reason.Error() != "1073741827 5 {3 42} 1" || rejects[1].Reason.Error() != "1073741827 6 {1073741827 6} 1" {
		t.Errorf("%v, %v", rejects, err)
	}
	if err := task.Close(); err != nil {
		t.Error(err)
	}
}

// TestWriteOfMoreThanAMessage: it goes in several, and what is larger than a message alone is a record that cannot be written.
func TestWriteOfMoreThanAMessage(t *testing.T) {
	_, sink, _ := describe(t, self(t, "tells places"))
	task := openSink(t, sink, envOf(t, "x"))
	var records []connectors.Record
	for i, size := range []int{1 << 20, 23 << 20, 1 << 10, frame.MaxBytes + 1, 1} {
		records = append(records, connectors.Record{Topic: "t", Offset: int64(i), RawValue: make([]byte, size)})
	}
	rejects, err := task.Write(t.Context(), records)
	if err != nil || len(rejects) != 5 {
		t.Fatalf("%v, %v", rejects, err)
	}
	slices.SortFunc(rejects, func(a, b connectors.Reject) int { return a.Index - b.Index })
	for i, r := range rejects {
		want := fmt.Sprint(0, i, connectors.Place{Offset: int64(i)}, len(records[i].RawValue))
		if i == 3 {
			want = "a record of topic t has "
		}
		if r.Index != i || !strings.HasPrefix(r.Reason.Error(), want) {
			t.Errorf("record %d: %+v; want %q", i, r, want)
		}
	}
	_ = task.Close()
}

// TestMakingOneStartsNothing: it happens under locks, a crew's, which a plugin that hangs must not hold.
func TestMakingOneStartsNothing(t *testing.T) {
	source, sink, p := describe(t, self(t, "garbage"))
	src, err := source.New(valuesOf(t, source.Spec, nil), envOf(t, "x"))
	if err != nil || src.Capabilities().Delivery != connectors.ExactlyOnce {
		t.Fatal(err)
	}
	snk, err := sink.New(valuesOf(t, sink.Spec, map[string]string{"topics": "t"}), envOf(t, "x"))
	if err != nil || len(snk.Topics()) != 1 || snk.Capabilities().Delivery != connectors.ExactlyOnce {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.running["x"] != nil {
		t.Error("a process was started")
	}
}

// heard is a log that can be waited for.
type heard chan string

func (h heard) Write(p []byte) (int, error) {
	h <- string(p)
	return len(p), nil
}

// wait waits for a line with that text.
func (h heard) wait(t *testing.T, text string) {
	t.Helper()
	for {
		select {
		case line := <-h:
			if strings.Contains(line, text) {
				return
			}
		case <-t.Context().Done():
			t.Fatal("nobody hears " + text)
		case <-time.After(time.Minute):
			t.Fatal("nobody hears " + text)
		}
	}
}

// TestLogOfWhoHearsIt: who asks in silence, before the task and while it runs, does not silence it.
func TestLogOfWhoHearsIt(t *testing.T) {
	source, _, _ := describe(t, self(t, "garbage"))
	log := make(heard, 100)
	loud, silent := envOf(t, "x"), envOf(t, "x")
	silent.Logger, loud.Logger = slog.New(slog.DiscardHandler), slog.New(slog.NewTextHandler(log, nil))
	for _, env := range []connectors.Env{silent, loud, silent} {
		s, err := source.New(valuesOf(t, source.Spec, nil), env)
		if err != nil {
			t.Fatal(err)
		}
		if err := connectors.Check(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if s.Validate(t.Context()); env == loud {
			log.wait(t, "asked to validate")
		}
	}
	log.wait(t, "asked to validate")
}

// TestNobodyBesideTheNextTask: a task that was cut off, in the middle of something or because it does not end, has no process any more once it is closed (invariant 7).
func TestNobodyBesideTheNextTask(t *testing.T) {
	gone := func(t *testing.T, run *runner) {
		t.Helper()
		if pid := run.cmd.Process.Pid; syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is there", pid)
		}
	}
	t.Run("in a commit", func(t *testing.T) {
		_, sink, _ := describe(t, self(t, "hangs in a commit"))
		log, env := make(heard, 100), envOf(t, "x")
		env.Logger = slog.New(slog.NewTextHandler(log, nil))
		task := openSink(t, sink, env)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			log.wait(t, "committing")
			cancel()
		}()
		if err := task.Commit(ctx, connectors.Token{}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := task.Close(); err != nil {
			t.Error(err)
		}
		gone(t, task.child.run)
		heir := openSink(t, sink, env)
		if heir.child == task.child {
			t.Error("the next task has the same process")
		}
		_ = heir.Close()
	})
	t.Run("a sink that clings", func(t *testing.T) {
		_, sink, p := describe(t, self(t, "clings"))
		p.patience = time.Millisecond
		task := openSink(t, sink, envOf(t, "x"))
		if err := task.Close(); err == nil || !strings.Contains(err.Error(), "its process was killed") {
			t.Error(err)
		}
		gone(t, task.child.run)
	})
	t.Run("a source that clings", func(t *testing.T) {
		source, _, p := describe(t, self(t, "clings"))
		p.patience = time.Millisecond
		s, err := source.New(valuesOf(t, source.Spec, nil), envOf(t, "x"))
		if err != nil {
			t.Fatal(err)
		}
		task := s.Task(connectors.Split{ID: "x"}).(*sourceTask)
		if err := task.Open(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := task.Close(); err == nil || !strings.Contains(err.Error(), "its process was killed") {
			t.Error(err)
		}
		gone(t, task.child.run)
	})
	t.Run("one that ends in good order", func(t *testing.T) {
		_, sink, _ := describe(t, self(t, "tells places"))
		task := openSink(t, sink, envOf(t, "x"))
		if err := task.Close(); err != nil {
			t.Error(err)
		}
		heir := openSink(t, sink, envOf(t, "x"))
		if heir.child == task.child {
			t.Error("a restart gets the process that it is to replace")
		}
		_ = heir.Close()
	})
}

// TestKeysOfAnyBytes: a key may be a file's name, which need not be UTF-8.
func TestKeysOfAnyBytes(t *testing.T) {
	want := map[connectors.PositionKey]connectors.Position{"caf\xe9.log": []byte("p")}
	text, err := proto.Marshal(convert.Positions(want))
	if err != nil {
		t.Fatal(err)
	}
	var got pb.Positions
	if err := proto.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(convert.PositionsFrom(&got), want) {
		t.Errorf("%v, %v", &got, err)
	}
}

// TestReadEndsWithItsTask, also while a plugin always has something to say.
func TestReadEndsWithItsTask(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := connectors.NewBatch(1 << 20)
	b.Add(connectors.Record{}, 1)
	task := &sourceTask{decoder: frame.NewDecoder()}
	if err := task.Read(ctx, b); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestFailuresAreNotLongerThanAnybodyReads: they go into states and dead letters.
func TestFailuresAreNotLongerThanAnybodyReads(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	err := (&child{}).failure(&pb.Failure{Message: long, Hint: long, Fatal: true})
	if f := (*connectors.FatalError)(nil); !errors.As(err, &f) || len(err.Error()) > 2*maxText || len(f.Hint) > maxText {
		t.Errorf("a text of %d bytes", len(err.Error()))
	}
}

// TestFailuresArriveWhole: what is fatal, the hint, and the record that is to blame.
func TestFailuresArriveWhole(t *testing.T) {
	blamed := &pb.Failure{Message: "no", Fatal: true, Hint: "mend it", Record: &pb.Blame{Partition: &pb.Partition{Topic: "t", Partition: 2}, Offset: 7}}
	err := (&child{}).failure(blamed)
	var f *connectors.FatalError
	var r *connectors.RecordError
	if !errors.As(err, &f) || f.Hint != "mend it" || !errors.As(err, &r) || r.Offset != 7 || r.Topic != "t" || r.Partition != 2 || err.Error() != "no" {
		t.Errorf("%#v", err)
	}
}

// TestLogOfAPluginThatRaves: some lines of each second, and how many are missing. A secret is hidden as JSON has it, too.
func TestLogOfAPluginThatRaves(t *testing.T) {
	var out bytes.Buffer
	at := time.Unix(1, 0)
	l := newLogLines(slog.New(slog.NewTextHandler(&out, nil)))
	l.now = func() time.Time { return at }
	l.hide(`say "<x>"`)
	for range 1000 {
		fmt.Fprintln(l, `{"msg":"raving","why":["say \"<x>\"","say \"\u003cx\u003e\""]}`)
	}
	at = time.Unix(2, 0)
	fmt.Fprintln(l, "and done")
	text := out.String()
	if n := strings.Count(text, "msg=raving"); n != logRate || !strings.Contains(text, `"lines left out"=800`) || !strings.Contains(text, "and done") ||
		strings.Contains(text, "say") || !strings.Contains(text, "******") {
		t.Errorf("%d lines of %s", n, text[:min(len(text), 1000)])
	}
}

// TestTopicsThatAreNotForPlugins: records do not get into Forebay's own topics.
func TestTopicsThatAreNotForPlugins(t *testing.T) {
	for name, ok := range map[string]bool{"_forebay.positions": false, "__consumer_offsets": false, "_mine": true} {
		e, b := frame.NewEncoder(), connectors.NewBatch(1<<20)
		if err := e.Record(&connectors.Record{Topic: name}); err != nil {
			t.Fatal(err)
		}
		d := (&source{}).Task(connectors.Split{}).(*sourceTask).decoder
		d.Feed(e.Bytes())
		if err := d.Fill(b); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnswersThatAreRefused: two splits of one name would be one task twice, and so would one that two hosts have.
func TestAnswersThatAreRefused(t *testing.T) {
	made := func(how string) connectors.Source {
		source, _, _ := describe(t, self(t, how))
		s, err := source.New(valuesOf(t, source.Spec, nil), envOf(t, "x"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for how, want := range map[string]string{"garbage": `it plans two splits that are called "a"`, "a split for all hosts": `a split "files" for host "h": a split names its host`, "a split for no host": `a split "files-h" for host ""`} {
		if got, err := made(how).Plan(t.Context(), 2); err == nil || !strings.Contains(err.Error(), want) || !connectors.IsFatal(err) {
			t.Errorf("%s: %v, %v", how, got, err)
		}
	}
	if _, err := made("garbage").Topics(t.Context()); err == nil || !strings.Contains(err.Error(), `"__x" is an internal topic`) {
		t.Error(err)
	}
}

func TestCheckRefuses(t *testing.T) {
	source, _, _ := describe(t, self(t, "refuses"))
	s, err := source.New(valuesOf(t, source.Spec, nil), envOf(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := connectors.Check(t.Context(), s); err == nil || err.Error() != "nothing suits me" || !connectors.IsFatal(err) {
		t.Error(err)
	}
}

// TestSecretsTravelInMessages: not in arguments, and not in variables.
func TestSecretsTravelInMessages(t *testing.T) {
	t.Setenv("SOME_PASSWORD", "hunter2")
	t.Setenv("WANTED", "seen")
	o := self(t, "garbage")
	o.Env = append(o.Env, "WANTED")
	source, _, _ := describe(t, o)
	log, env := make(heard, 100), envOf(t, "x")
	env.Logger = slog.New(slog.NewTextHandler(log, nil))
	s, err := source.New(valuesOf(t, source.Spec, map[string]string{"password": "hunter2"}), env)
	if err != nil {
		t.Fatal(err)
	}
	got := s.Validate(t.Context())
	if len(got) != 2 || got[0].Message != fmt.Sprintf("%x", "hunter2") {
		t.Fatalf("the secret does not arrive: %+v", got)
	}
	if strings.Contains(got[1].Hint, "SOME_PASSWORD") || !strings.Contains(got[1].Hint, "WANTED=seen") {
		t.Errorf("the plugin was started with\n%s", got[1].Hint)
	}
	if got[1].Message != "not ******" {
		t.Errorf("a plugin's text is %q", got[1].Message)
	}
	log.wait(t, "asked to validate ******")
}

// TestKilled: the task fails with an error that may pass, and the next one has a process of its own.
func TestKilled(t *testing.T) {
	source, _, _ := describe(t, example(t))
	folder := t.TempDir()
	s, err := source.New(valuesOf(t, source.Spec, map[string]string{"folder": folder, "poll": "1ms"}), envOf(t, "rows"))
	if err != nil {
		t.Fatal(err)
	}
	b := connectors.NewBatch(1 << 20)
	for i := range 2 {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.csv", i)), []byte("id\n1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		task := s.Task(connectors.Split{ID: "files"})
		if err := task.Open(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := task.Read(t.Context(), b); err != nil || len(b.Records) != i+1 {
			t.Fatalf("%d records, %v", len(b.Records), err)
		}
		run := task.(*sourceTask).child.run
		if err := run.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := task.Read(t.Context(), b); err == nil || connectors.IsFatal(err) || !strings.Contains(err.Error(), "has ended: signal: killed") {
			t.Errorf("after the kill: %v", err)
		}
		_ = task.Close()
	}
}

// TestEndsWithUs kills a process that has started a plugin, one that does not even look at its standard input.
func TestEndsWithUs(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"well behaved", "stubborn"} {
		host := exec.Command(path, "-test.run", "TestHostOf$")
		host.Env = append(os.Environ(), "HOST_OF="+how)
		out, err := host.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := host.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscanf(out, "plugin %d\n", &pid); err != nil || pid == 0 {
			t.Fatal(err)
		}
		_ = host.Process.Kill()
		_ = host.Wait()
		deadline := time.Now().Add(20 * time.Second)
		for syscall.Kill(pid, 0) == nil && !zombie(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: process %d outlives its host", how, pid)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}

// zombie says that a process has ended, and nobody has asked for its code.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// TestHostOf is the process that TestEndsWithUs kills.
func TestHostOf(t *testing.T) {
	how := os.Getenv("HOST_OF")
	if how == "" {
		return
	}
	o := self(t, how)
	c, err := o.start(t.Context(), newLogLines(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("plugin %s\n", c.run.ID())
	select {}
}

// FuzzHandshake: any first line is a socket or an error.
func FuzzHandshake(f *testing.F) {
	f.Add("1|1|unix|/tmp/s|grpc")
	f.Add("1|1|unix|/tmp/s|grpc|cert|true")
	f.Add("||||")
	f.Fuzz(func(t *testing.T, line string) {
		if socket, err := handshakeLine(line); err == nil && !filepath.IsAbs(socket) {
			t.Fatal(socket)
		}
	})
}
