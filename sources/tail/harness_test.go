package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// hub plays the runtime and the log: it appends records and positions together.
type hub struct {
	t         *testing.T
	cfg       map[string]string
	excluded  []string
	src       *Source
	task      *task
	positions map[connectors.PositionKey]connectors.Position
	records   []record
	batch     *connectors.Batch
	log       *slog.Logger
}

type record struct {
	value, path, offset, file string
	part                      int32
}

func newHub(t *testing.T, fields ...string) *hub {
	h := &hub{t: t, cfg: map[string]string{"poll": "2ms", "rotate_wait": "60ms"}, positions: map[connectors.PositionKey]connectors.Position{},
		batch: connectors.NewBatch(64 << 10), log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	for i := 0; i < len(fields); i += 2 {
		h.cfg[fields[i]] = fields[i+1]
	}
	t.Cleanup(h.kill)
	return h
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// start is a start of the process: nothing but the positions is left of the last one.
func (h *hub) start() {
	h.t.Helper()
	var n spec.Node
	n.Shape = spec.Mapping
	for k, v := range h.cfg {
		n.Map = append(n.Map, spec.Entry{Key: k, Value: spec.Node{Shape: spec.Scalar, Text: v}})
	}
	if len(h.excluded) > 0 {
		list := spec.Node{Shape: spec.List}
		for _, e := range h.excluded {
			list.List = append(list.List, spec.Node{Shape: spec.Scalar, Text: e})
		}
		n.Map = append(n.Map, spec.Entry{Key: "exclude", Value: list})
	}
	v, findings := Spec().Parse(n)
	if len(findings) > 0 {
		h.t.Fatalf("config: %+v", findings)
	}
	s, err := New(v, connectors.Env{Name: "logs", Host: "h1", Logger: h.log})
	if err != nil {
		h.t.Fatal(err)
	}
	h.src = s.(*Source)
	h.reopen()
}

// reopen is a restart of the task within the process.
func (h *hub) reopen() {
	h.t.Helper()
	h.task = h.src.Task(connectors.Split{ID: "host-h1", Host: "h1"}).(*task)
	pos := map[connectors.PositionKey]connectors.Position{}
	for k, p := range h.positions {
		pos[k] = append(connectors.Position(nil), p...)
	}
	if err := h.task.Open(context.Background(), pos); err != nil {
		h.t.Fatalf("open: %v", err)
	}
}

// kill ends the process without a word: descriptors close, nothing else happens.
func (h *hub) kill() {
	if h.task == nil {
		return
	}
	h.task.hints.close()
	for _, f := range h.task.order {
		f.close()
	}
	for _, f := range h.src.kept {
		f.close()
	}
	h.task = nil
}

// read does one Read of at most wait; lose throws the batch away, as a kill before the append would.
func (h *hub) read(wait time.Duration, lose bool) bool {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	h.batch.Reset()
	err := h.task.Read(ctx, h.batch)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		h.t.Fatalf("read: %v", err)
	}
	if h.batch.Empty() || lose {
		return !h.batch.Empty()
	}
	for i := range h.batch.Records {
		r := &h.batch.Records[i]
		out := record{value: string(r.RawValue), part: r.Partition}
		for _, hd := range r.Headers {
			switch hd.Key {
			case "path":
				out.path = string(hd.Value)
			case "offset":
				out.offset = string(hd.Value)
			case "file":
				out.file = string(hd.Value)
			case "host":
				if string(hd.Value) != "h1" {
					h.t.Fatalf("host header %q", hd.Value)
				}
			default:
				h.t.Fatalf("header %q", hd.Key)
			}
		}
		h.records = append(h.records, out)
	}
	done := map[connectors.PositionKey]connectors.Position{}
	for _, m := range h.batch.Marks {
		p := append(connectors.Position(nil), m.Position...)
		if m.Position == nil {
			p = nil
		}
		if p == nil {
			delete(h.positions, m.Key)
		} else {
			h.positions[m.Key] = p
		}
		done[m.Key] = p
	}
	if err := h.task.Committed(context.Background(), done); err != nil {
		h.t.Fatal(err)
	}
	return true
}

// until reads until ok says so.
func (h *hub) until(what string, ok func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited for %s; have %d records: %v", what, len(h.records), h.tailOf(10))
		}
		h.read(20*time.Millisecond, false)
	}
}

func (h *hub) tailOf(n int) []record { return h.records[max(0, len(h.records)-n):] }

func (h *hub) values() []string {
	var out []string
	for _, r := range h.records {
		out = append(out, r.value)
	}
	return out
}

// expect reads until exactly these values are there, and a little longer.
func (h *hub) expect(want ...string) {
	h.t.Helper()
	h.until(fmt.Sprintf("%d records", len(want)), func() bool { return len(h.records) >= len(want) })
	for range 5 {
		h.read(5*time.Millisecond, false)
	}
	if got := h.values(); strings.Join(got, "|") != strings.Join(want, "|") {
		h.t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func (h *hub) fileOf(path string) fileID {
	h.t.Helper()
	info, err := os.Stat(path)
	must(h.t, err)
	id, _ := idOf(info)
	return id
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o644))
}

func in(dir, name string) string { return filepath.Join(dir, name) }
