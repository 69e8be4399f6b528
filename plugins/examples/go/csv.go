package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// maxRow bounds a row: one that has no end must not be read into memory for ever.
const maxRow = 8 << 20

func csvType() connectors.SourceType {
	return connectors.SourceType{
		Spec: spec.Spec{
			Doc: "Reads a folder of CSV files, which may grow. The first line of a file names its columns; each row is a record with these columns.",
			Fields: []spec.Field{
				{Name: "folder", Type: spec.String, Required: true, Example: "/var/lib/orders", Doc: "The folder; its *.csv files are read in the order of their names."},
				{Name: "topic", Type: spec.String, Doc: "The topic to append to. Not given: the source's name."},
				{Name: "comma", Type: spec.String, Default: ",", Doc: "What separates the columns.", Check: func(v any) error {
					if s, _ := v.(string); len([]rune(s)) != 1 {
						return errors.New("it is one character")
					}
					return nil
				}},
				{Name: "poll", Type: spec.Duration, Default: "1s", Doc: "How often to look for new rows and files."},
			},
		},
		HostBound: true,
		New: func(v spec.Values, env connectors.Env) (connectors.Source, error) {
			s := &csvSource{folder: v.String("folder"), topic: v.String("topic"), comma: []rune(v.String("comma"))[0], poll: v.Duration("poll"), host: env.Host}
			if s.topic == "" {
				s.topic = env.Name
			}
			return s, nil
		},
	}
}

type csvSource struct {
	folder, topic, host string
	comma               rune
	poll                time.Duration
}

func (s *csvSource) Validate(context.Context) []spec.Finding {
	if _, err := os.ReadDir(s.folder); err != nil {
		return []spec.Finding{{Path: "folder", Message: err.Error(), Hint: "it has to be a folder that Forebay may read"}}
	}
	return nil
}

// Plan names one split: the files of this host. No two hosts may have one of the same ID, for it is what positions are kept under.
func (s *csvSource) Plan(context.Context, int) ([]connectors.Split, error) {
	return []connectors.Split{{ID: "host-" + s.host, Host: s.host}}, nil
}

func (s *csvSource) Topics(context.Context) ([]connectors.TopicSpec, error) {
	return []connectors.TopicSpec{{Name: s.topic}}, nil
}

func (s *csvSource) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

// place is a position: how much of a file has been read. The key is the file's name.
type place struct {
	Bytes int64 `json:"bytes"`
}

func placeOf(p connectors.Position) (at place) {
	if json.Unmarshal(p, &at) != nil {
		return place{}
	}
	return at
}

func (s *csvSource) Compare(_ connectors.PositionKey, a, b connectors.Position) int {
	return int(min(max(placeOf(a).Bytes-placeOf(b).Bytes, -1), 1))
}

func (s *csvSource) Task(connectors.Split) connectors.SourceTask {
	return &csvTask{s: s, at: map[string]int64{}, schemas: map[string]*schema.Schema{}}
}

type csvTask struct {
	s       *csvSource
	at      map[string]int64          // by file
	schemas map[string]*schema.Schema // by file: a schema is known by its identity
}

func (t *csvTask) Open(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	for key, p := range positions {
		t.at[string(key)] = placeOf(p).Bytes
	}
	return nil
}

func (t *csvTask) Read(ctx context.Context, b *connectors.Batch) error {
	for {
		names, err := filepath.Glob(filepath.Join(t.s.folder, "*.csv"))
		if err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			if err := t.file(name, b); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if b.Full() {
				return nil
			}
		}
		if !b.Empty() {
			return nil
		}
		wait := time.NewTimer(t.s.poll)
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
	}
}

// file adds the rows of a file that are whole and have not been read.
func (t *csvTask) file(name string, b *connectors.Batch) error {
	key := filepath.Base(name)
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	at := t.at[key]
	info, err := f.Stat()
	if err != nil || info.Size() == at {
		return err
	}
	if info.Size() < at {
		return connectors.Fatal(fmt.Errorf("it has %d bytes, and %d of it have been read", info.Size(), at), "a file may only grow; give the new one another name")
	}
	s := t.schemas[key]
	if s == nil {
		columns, end, err := row(f, 0, t.s.comma)
		if err != nil || columns == nil {
			return err
		}
		s = &schema.Schema{Kind: schema.Struct}
		for _, c := range columns {
			s.Fields = append(s.Fields, schema.Field{Name: c, Schema: &schema.Schema{Kind: schema.String, Optional: true}})
		}
		t.schemas[key] = s
		at = max(at, end)
	}
	for !b.Full() {
		end, err := t.rows(io.NewSectionReader(f, 0, info.Size()), key, s, at, b)
		if err != nil || end == at {
			return err
		}
		at = end
	}
	return nil
}

// rowsPerMark is how many rows are read again at most when a task was killed.
const rowsPerMark = 50

// rows adds rows from an offset on until b is full or there are no whole ones, and gives the offset behind them.
func (t *csvTask) rows(f *io.SectionReader, key string, s *schema.Schema, at int64, b *connectors.Batch) (end int64, err error) {
	r := csv.NewReader(io.NewSectionReader(f, at, maxRow))
	r.Comma, r.FieldsPerRecord, r.ReuseRecord = t.s.comma, len(s.Fields), true
	end = at
	mark := func() error {
		p, err := json.Marshal(place{end})
		b.Mark(connectors.PositionKey(key), p, true)
		t.at[key] = end
		return err
	}
	for n := 1; !b.Full(); n++ {
		cells, err := r.Read()
		behind := at + r.InputOffset()
		if err != nil || behind >= f.Size() && !ended(f, behind) {
			if end == at && r.InputOffset() >= maxRow {
				return at, connectors.Fatal(fmt.Errorf("a row of more than %d bytes behind byte %d", maxRow, at), "is a quote missing?")
			}
			if err = unfinished(f, behind, err); err != nil || end == at {
				return end, err
			}
			break
		}
		row := connectors.Record{Topic: t.s.topic, Partition: -1, Value: connectors.Datum{Schema: s, Value: schema.Value{Kind: schema.Struct, List: b.Values(len(cells))}}}
		size := 0
		for i, c := range cells {
			row.Value.Value.List[i] = schema.TextOf(b.Copy([]byte(c)))
			size += len(c)
		}
		b.Add(row, size)
		if end = behind; n%rowsPerMark == 0 {
			if err := mark(); err != nil {
				return end, err
			}
		}
	}
	return end, mark()
}

// row is the row at an offset, and the offset behind it; nil when it is not whole yet.
func row(f io.ReaderAt, at int64, comma rune) ([]string, int64, error) {
	r := csv.NewReader(io.NewSectionReader(f, at, maxRow))
	r.Comma = comma
	cells, err := r.Read()
	if err != nil || !ended(f, at+r.InputOffset()) {
		return nil, at, unfinished(f, at+r.InputOffset(), err)
	}
	return slices.Clone(cells), at + r.InputOffset(), nil
}

// ended says that a row ends with its line: somebody may be writing the one at the end of a file.
func ended(f io.ReaderAt, at int64) bool {
	last := make([]byte, 1)
	_, err := f.ReadAt(last, at-1)
	return err == nil && bytes.Equal(last, []byte{'\n'})
}

// unfinished forgets what the row at the end looks like while it is being written: its quote is not closed.
func unfinished(f io.ReaderAt, end int64, err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	if more, _ := f.ReadAt(make([]byte, 1), end); more == 0 && errors.Is(err, csv.ErrQuote) {
		return nil
	}
	if err != nil {
		return connectors.Fatal(fmt.Errorf("before byte %d: %w", end, err), "mend the row")
	}
	return nil
}

// Committed has nothing to give back: files stay.
func (t *csvTask) Committed(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}

func (t *csvTask) Close() error { return nil }
