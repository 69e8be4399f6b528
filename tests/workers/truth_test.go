package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// truth writes numbered lines and numbered rows, and knows what has to have arrived.
type truth struct {
	t           *testing.T
	dir         string
	source      string // of rows
	target      string
	reader      *kgo.Client
	writing     sync.Mutex // held while nothing is written
	lines, rows int        // written so far; under writing

	read struct { // what was read of the log so far
		lines, rows []int
	}
}

const writeEvery = 10 * time.Millisecond

func newTruth(t *testing.T, dir, source, target string) *truth {
	return &truth{t: t, dir: dir, source: source, target: target}
}

// from reads the log as a read_committed consumer does.
func (tr *truth) from(bootstrap string) {
	tr.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics("lines", "shop.public.t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(time.Second), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(cl.Close)
	tr.reader = cl
}

// write writes until end is called.
func (tr *truth) write() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := tr.writeUntil(ctx); err != nil && ctx.Err() == nil {
			tr.t.Error("the writer:", err)
		}
	})
	return func() { cancel(); done.Wait() }
}

func (tr *truth) writeUntil(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, tr.source)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	f, err := os.Create(filepath.Join(tr.dir, "lines.log"))
	if err != nil {
		return err
	}
	defer f.Close()
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := tr.writeOne(ctx, conn, f); err != nil {
			return err
		}
	}
}

func (tr *truth) writeOne(ctx context.Context, conn *pgx.Conn, f *os.File) error {
	tr.writing.Lock()
	defer tr.writing.Unlock()
	if _, err := fmt.Fprintf(f, "%d\n", tr.lines); err != nil {
		return err
	}
	tr.lines++
	if _, err := conn.Exec(ctx, "INSERT INTO t VALUES ($1, $2)", tr.rows, strings.Repeat("x", 100)); err != nil {
		return err
	}
	tr.rows++
	return nil
}

// pass lets time pass, in which things are written.
func (tr *truth) pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// check waits, while nothing is written, until everything has arrived everywhere. More than that, twice or out of order, is an error.
func (tr *truth) check() (lines, rows int) {
	tr.t.Helper()
	tr.writing.Lock()
	defer tr.writing.Unlock()
	for what, look := range map[string]func() (int, error){"lines in the log": tr.logged, "lines in files": tr.filed, "rows in the table": tr.stored} {
		deadline := time.Now().Add(time.Minute)
		for {
			n, err := look()
			if err != nil {
				tr.t.Fatalf("%s: %v", what, err)
			}
			if n == tr.lines { // as many rows as lines are written
				break
			}
			if time.Now().After(deadline) {
				tr.t.Fatalf("%s: %d, and %d were written a minute ago", what, n, tr.lines)
			}
			tr.pass(50 * time.Millisecond)
		}
	}
	if n := len(tr.read.rows); n != tr.rows {
		tr.t.Fatalf("rows in the log: %d, and %d were written", n, tr.rows)
	}
	return tr.lines, tr.rows
}

// logged reads on in the log until it has what was written, and a moment longer.
func (tr *truth) logged() (int, error) {
	ctx, cancel := context.WithTimeout(tr.t.Context(), 300*time.Millisecond)
	defer cancel()
	var failed error
	tr.reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
		if failed != nil {
			return
		}
		n, list := 0, &tr.read.lines
		if r.Topic == "lines" {
			_, failed = fmt.Sscan(string(r.Value), &n)
		} else {
			list = &tr.read.rows
			var key struct{ ID int }
			failed = json.Unmarshal(r.Key, &key)
			n = key.ID
		}
		if failed == nil && n != len(*list) {
			failed = fmt.Errorf("%s at offset %d has number %d, where %d belongs", r.Topic, r.Offset, n, len(*list))
		}
		*list = append(*list, n)
	})
	return min(len(tr.read.lines), len(tr.read.rows)), failed
}

// filed reads the files in the order of their names, which are offsets.
func (tr *truth) filed() (n int, err error) {
	root := filepath.Join(tr.dir, "files", "lines")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if line != fmt.Sprintf("%d\n", n) {
				return fmt.Errorf("%s has %q, where %d belongs", path, line, n)
			}
			n++
		}
		return nil
	})
	if os.IsNotExist(err) {
		return 0, nil
	}
	return n, err
}

// stored counts the target table's rows; one that is there twice is an error.
func (tr *truth) stored() (n int, err error) {
	ctx, cancel := context.WithTimeout(tr.t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, tr.target)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var distinct int
	err = conn.QueryRow(ctx, "SELECT count(*), count(DISTINCT id) FROM public.t").Scan(&n, &distinct)
	if p := (*pgconn.PgError)(nil); errors.As(err, &p) && p.Code == "42P01" {
		return 0, nil // the sink has not made the table yet
	}
	if err != nil {
		return 0, err
	}
	if n != distinct {
		return 0, fmt.Errorf("%d rows, of which %d are there more than once", n, n-distinct)
	}
	return n, nil
}
