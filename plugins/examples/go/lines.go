package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

func linesType() connectors.SinkType {
	return connectors.SinkType{
		Spec: spec.Spec{
			Doc: "Writes records as lines of JSON with their offset, key and value: one folder for each partition, one file for each commit, named by the offset it begins with.",
			Fields: []spec.Field{
				{Name: "folder", Type: spec.String, Required: true, Example: "/var/lib/lines", Doc: "The folder to write to."},
				{Name: "interval", Type: spec.Duration, Default: "10s", Doc: "How long records may wait for a file."},
				{Name: "size", Type: spec.Size, Default: "64MiB", Doc: "How large a file becomes."},
			},
		},
		New: func(v spec.Values, _ connectors.Env) (connectors.Sink, error) {
			return &linesSink{folder: v.String("folder"), interval: v.Duration("interval"), size: v.Size("size"), topics: v.Strings("topics")}, nil
		},
	}
}

type linesSink struct {
	folder   string
	interval time.Duration
	size     int64
	topics   []string
}

func (s *linesSink) Topics() []string { return s.topics }

func (s *linesSink) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

func (s *linesSink) Validate(context.Context) []spec.Finding {
	if err := os.MkdirAll(s.folder, 0o755); err != nil {
		return []spec.Finding{{Path: "folder", Message: err.Error(), Hint: "it has to be a folder that Forebay may write to"}}
	}
	return nil
}

func (s *linesSink) Task(env connectors.SinkEnv) connectors.SinkTask {
	return &linesTask{s: s, id: env.TaskID, parts: map[connectors.TopicPartition]*part{}}
}

// linesTask writes a hidden file per partition. A commit gives it a second name, which no file may have yet: of two writers
// that begin at the same offset one wins, and the file that a reader sees is whole.
type linesTask struct {
	s     *linesSink
	id    string
	parts map[connectors.TopicPartition]*part
}

type part struct {
	dir   string
	file  *os.File // nil: nothing is written
	out   *bufio.Writer
	bytes int64
	first int64
	next  int64
	since time.Time
}

func (t *linesTask) Open(context.Context) error { return os.MkdirAll(t.s.folder, 0o755) }

func (t *linesTask) dir(tp connectors.TopicPartition) string {
	return filepath.Join(t.s.folder, url.PathEscape(tp.Topic), strconv.Itoa(int(tp.Partition)))
}

const (
	suffix  = ".ndjson"
	idFile  = "topic-id"
	tempTag = ".writing-"
)

func (t *linesTask) Recover(_ context.Context, as []connectors.Assignment) (map[connectors.TopicPartition]int64, error) {
	out := map[connectors.TopicPartition]int64{}
	for _, a := range as {
		dir := t.dir(a.TopicPartition)
		next, err := t.recover(dir, a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		t.parts[a.TopicPartition] = &part{dir: dir, next: next}
		out[a.TopicPartition] = next
	}
	return out, nil
}

func (t *linesTask) recover(dir string, a connectors.Assignment) (int64, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	id := hex.EncodeToString(a.TopicID[:])
	f, err := os.OpenFile(filepath.Join(dir, idFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.WriteString(id)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, err
	}
	have, err := os.ReadFile(filepath.Join(dir, idFile))
	if err != nil {
		return 0, err
	}
	if string(have) != id {
		return 0, connectors.Fatal(fmt.Errorf("its files are of a topic that was deleted; the topic's id was %s and is %s", have, id), "move the folder away, or give another one")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	newest := ""
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, tempTag):
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
		case strings.HasSuffix(name, suffix):
			newest = max(newest, name)
		}
	}
	if newest == "" {
		return a.First(), nil
	}
	next, err := behind(filepath.Join(dir, newest))
	if err == nil && next < a.StartOffset {
		err = connectors.Fatal(fmt.Errorf("the next offset is %d, and the log begins at %d", next, a.StartOffset), "retention was too short; move the folder away to go on behind the gap")
	}
	return next, err
}

type line struct {
	Offset int64 `json:"offset"`
	Key    any   `json:"key"`
	Value  any   `json:"value"`
}

// behind is the offset behind the last line of a file.
func behind(name string) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	for tail := int64(4 << 10); ; tail *= 4 {
		text := make([]byte, min(tail, size))
		if _, err := f.ReadAt(text, size-int64(len(text))); err != nil {
			return 0, err
		}
		text = bytes.TrimSuffix(text, []byte("\n"))
		i := bytes.LastIndexByte(text, '\n')
		if i < 0 && int64(len(text)) < size-1 {
			continue // a longer line
		}
		var l line
		if err := json.Unmarshal(text[i+1:], &l); err != nil {
			return 0, connectors.Fatal(fmt.Errorf("%s: the last line: %w", filepath.Base(name), err), "somebody else has changed the file")
		}
		return l.Offset + 1, nil
	}
}

func (t *linesTask) Write(_ context.Context, records []connectors.Record) ([]connectors.Reject, error) {
	if len(records) == 0 {
		return nil, nil
	}
	p := t.parts[connectors.TopicPartition{Topic: records[0].Topic, Partition: records[0].Partition}]
	if p.file == nil {
		f, err := os.OpenFile(p.temp(t.id), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return nil, err
		}
		p.file, p.out, p.first, p.since, p.bytes = f, bufio.NewWriterSize(f, 256<<10), records[0].Offset, time.Now(), 0
	}
	var buf []byte
	for i := range records {
		r := &records[i]
		buf = strconv.AppendInt(append(buf[:0], `{"offset":`...), r.Offset, 10)
		buf = appendText(append(buf, `,"key":`...), r.RawKey)
		buf = appendText(append(buf, `,"value":`...), r.RawValue)
		buf = append(buf, "}\n"...)
		if _, err := p.out.Write(buf); err != nil {
			return nil, err
		}
		p.bytes += int64(len(buf))
		p.next = r.Offset + 1
	}
	return nil, nil
}

// appendText appends bytes as JSON: what is JSON stays as it is, other text becomes a string.
func appendText(dst, b []byte) []byte {
	switch {
	case b == nil:
		return append(dst, "null"...)
	case len(b) > 0 && (b[0] == '{' || b[0] == '[') && json.Valid(b) && !bytes.ContainsAny(b, "\r\n"):
		return append(dst, b...)
	}
	text, err := json.Marshal(string(b))
	if err != nil {
		panic(err) // a string can always be written
	}
	return append(dst, text...)
}

func (p *part) temp(task string) string {
	return filepath.Join(p.dir, fmt.Sprintf("%s%s-%020d", tempTag, task, p.next))
}

func (p *part) final() string {
	return filepath.Join(p.dir, fmt.Sprintf("%020d%s", p.first, suffix))
}

func (t *linesTask) Tick(now time.Time) (due []connectors.TopicPartition) {
	for tp, p := range t.parts {
		if p.file != nil && (now.Sub(p.since) >= t.s.interval || p.bytes >= t.s.size) {
			due = append(due, tp)
		}
	}
	return due
}

// Prepare stores what was written. The token says which two names the file has.
func (t *linesTask) Prepare(_ context.Context, tps []connectors.TopicPartition, _ connectors.Cause) (tokens []connectors.Token, err error) {
	for _, tp := range tps {
		p := t.parts[tp]
		if p == nil || p.file == nil {
			continue
		}
		name := p.file.Name()
		if err := errors.Join(p.out.Flush(), p.file.Sync(), p.file.Close()); err != nil {
			return nil, err
		}
		p.file = nil
		data, err := json.Marshal([]string{name, p.final()})
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, connectors.Token{TopicPartition: tp, Next: p.next, Data: data})
	}
	return tokens, nil
}

func (t *linesTask) Commit(_ context.Context, token connectors.Token) error {
	var names []string
	data, _ := token.Data.([]byte)
	if err := json.Unmarshal(data, &names); err != nil || len(names) != 2 {
		return connectors.Fatal(fmt.Errorf("a token %q", data), "")
	}
	from, to := names[0], names[1]
	if err := os.Link(from, to); err != nil {
		a, aerr := os.Stat(from)
		b, berr := os.Stat(to)
		if aerr != nil || berr != nil || !os.SameFile(a, b) { // the same: it has been committed before
			return fmt.Errorf("another writer has been here: %w", err)
		}
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (t *linesTask) Revoke(_ context.Context, tps []connectors.TopicPartition) (err error) {
	for _, tp := range tps {
		if p := t.parts[tp]; p != nil {
			err = errors.Join(err, p.drop())
			delete(t.parts, tp)
		}
	}
	return err
}

// drop closes the file that is being written; the next Recover removes it, and the second names of those that were committed.
func (p *part) drop() error {
	if p.file == nil {
		return nil
	}
	f := p.file
	p.file = nil
	return f.Close()
}

func (t *linesTask) Close() (err error) {
	tps := []connectors.TopicPartition{}
	for tp := range t.parts {
		tps = append(tps, tp)
	}
	slices.SortFunc(tps, func(a, b connectors.TopicPartition) int { return strings.Compare(a.Topic, b.Topic) })
	return t.Revoke(context.Background(), tps)
}
