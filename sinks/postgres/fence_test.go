package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
)

// kill drops a task as SIGKILL does: the socket is closed, nothing is said.
func (l *life) kill() {
	if l.task.conn != nil {
		_ = l.task.conn.Conn().Close()
	}
}

func TestKillAtEveryStep(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, nil)
	next := int64(0)
	for i := range 40 {
		l := start(t, s)
		if l.start != next {
			t.Fatalf("resumes at %d after %d", l.start, next)
		}
		for range 5 {
			l.write(upsert(int64(rand.IntN(20)), fmt.Sprint(l.next), "x"))
		}
		switch i % 4 {
		case 0: // before Prepare
		case 1: // between Prepare and Commit
			l.prepare()
		case 2: // inside the transaction: everything but COMMIT was done
			b := l.prepare()[0].Data.(*batch)
			if moved, err := l.task.fence(t.Context(), l.task.conn, b); err != nil || !moved {
				t.Fatal(moved, err)
			}
			if _, err := l.task.rows(t.Context(), l.task.conn, b); err != nil {
				t.Fatal(err)
			}
		case 3: // after Commit
			l.flush()
			next = l.next
		}
		l.kill()
	}
	holds(t, c, "SELECT next_offset FROM _forebay_offsets", fmt.Sprint(next))
	holds(t, c, "SELECT count(*), count(*) FILTER (WHERE name::bigint >= "+fmt.Sprint(next)+") FROM orders", rows(t, c, "SELECT count(*), 0 FROM orders")[0])
}

// Invariant 7: a task that was taken over writes nothing more, whatever it has prepared.
func TestZombie(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, nil)
	zombie := start(t, s)
	zombie.write(upsert(1, "zombie", nil))
	tokens := zombie.prepare()
	heir := start(t, s)
	heir.write(upsert(1, "heir", nil))
	err := zombie.task.Commit(t.Context(), tokens[0])
	fatalWith(t, err, "taken over by task "+heir.task.env.TaskID, fmt.Sprintf("epoch %d", heir.task.env.Epoch))
	heir.flush()
	holds(t, c, "SELECT id, name FROM orders", "1|heir")
	// One with an old epoch cannot even begin.
	_, err = tryStart(t, s, assigned(0), heir.task.env.Epoch-1)
	fatalWith(t, err, "taken over by task "+heir.task.env.TaskID)
	// Between its first statement and the COMMIT a zombie holds the row. One that cannot be ended is waited for, and the heir resumes behind it.
	slow := start(t, s)
	rows(t, slow.task.conn, "SET application_name = 'somebody else'")
	slow.write(upsert(2, "slow", nil))
	b := slow.prepare()[0].Data.(*batch)
	if moved, err := slow.task.fence(t.Context(), slow.task.conn, b); err != nil || !moved {
		t.Fatal(moved, err)
	}
	sql, err := slow.task.rows(t.Context(), slow.task.conn, b)
	if err != nil {
		t.Fatal(err)
	}
	epoch := epochs.Add(1)
	recovered := make(chan int64)
	go func() {
		l, err := tryStart(t, s, assigned(0), epoch)
		if err != nil {
			t.Error(err)
			close(recovered)
			return
		}
		recovered <- l.start
	}()
	eventually(t, "the heir waits for the lock", func() bool {
		return rows(t, c, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")[0] != "0"
	})
	if err := exec(t.Context(), slow.task.conn, sql+"COMMIT"); err != nil {
		t.Fatal(err)
	}
	if at := <-recovered; at != b.next {
		t.Errorf("the heir resumes at %d, but %d is committed", at, b.next)
	}
	holds(t, c, "SELECT id, name FROM orders ORDER BY 1", "1|heir", "2|slow")
}

// A worker that hangs, or whose machine is gone, in the middle of a COPY: the server waits for the rest of it, and no timeout of a transaction counts meanwhile. Its heir ends that session.
func TestHangsInItsCopy(t *testing.T) {
	url, c := pg(t)
	px := newProxy(t, url)
	zombie := start(t, newSink(t, px.url, nil))
	zombie.write(upsert(1, "zombie", nil))
	px.hangAt("zombie")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	failed := make(chan error, 1)
	tokens := zombie.prepare()
	go func() { failed <- zombie.task.Commit(ctx, tokens[0]) }()
	eventually(t, "the server waits for the rows", func() bool {
		return px.broken() && rows(t, c, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %' AND wait_event = 'ClientRead'")[0] == "1"
	})
	heir := start(t, newSink(t, url, nil))
	heir.write(upsert(1, "heir", nil))
	heir.flush()
	stop()
	if err := <-failed; err == nil {
		t.Error("the zombie has committed")
	}
	holds(t, c, "SELECT id, name FROM orders", "1|heir")
}

// The server itself notices a machine that is gone, before two hours have passed.
func TestKeepAlive(t *testing.T) {
	url, _ := pg(t)
	l := start(t, newSink(t, url, nil))
	holds(t, l.task.conn, "SELECT current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'), current_setting('tcp_keepalives_count'), current_setting('tcp_user_timeout')", "10|5|3|30000")
}

// Two tasks that both believe to be the one race through takeovers and commits: no offset is written twice.
func TestRacingTasks(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, map[string]string{"mode": "append"})
	const target = 300
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				l, err := tryStart(t, s, assigned(0), epochs.Add(1))
				if err != nil {
					if !connectors.IsFatal(err) { // fenced while it started
						t.Error(err)
						return
					}
					continue
				}
				for range 1 + rand.IntN(4) {
					if l.next >= target {
						_ = l.task.Close()
						return
					}
					for range 1 + rand.IntN(5) {
						l.write(upsert(l.next, "x", nil))
					}
					if err := l.tryFlush(); err != nil {
						if !connectors.IsFatal(err) {
							t.Error(err)
						}
						break
					}
				}
				_ = l.task.Close()
			}
		})
	}
	wg.Wait()
	holds(t, c, "SELECT count(*) = count(DISTINCT _offset), count(*) = max(_offset) + 1, max(_offset) + 1 = (SELECT next_offset FROM _forebay_offsets) FROM orders", "t|t|t")
}

// The connection breaks during COMMIT: whether the server has committed is read back.
func TestCommitOutcomeUnknown(t *testing.T) {
	for _, reaches := range []bool{true, false} {
		t.Run("CommitReachesServer="+strconv.FormatBool(reaches), func(t *testing.T) {
			url, c := pg(t)
			px := newProxy(t, url)
			l := start(t, newSink(t, px.url, nil))
			l.write(upsert(1, "a", nil))
			l.flush()
			l.write(upsert(2, "b", nil), upsert(1, "a2", nil))
			px.breakAt(";COMMIT\x00", reaches)
			l.flush()
			if !px.broken() {
				t.Fatal("the connection was not broken")
			}
			holds(t, c, "SELECT id, name FROM orders ORDER BY 1", "1|a2", "2|b")
			l.write(upsert(3, "c", nil))
			l.flush()
			holds(t, c, "SELECT next_offset FROM _forebay_offsets", "4")
			holds(t, c, "SELECT count(*) FROM orders", "3")
		})
	}
}

// proxy stands between the sink and the server and breaks a connection at a word.
type proxy struct {
	t    *testing.T
	url  string
	mu   sync.Mutex
	at   string
	let  bool // the server gets the word; only its answer is lost
	hit  bool
	hang <-chan struct{} // the connection stays, and nothing passes any more; until it is closed
}

func newProxy(t *testing.T, url string) *proxy {
	t.Helper()
	i := strings.Index(url, "@")
	j := i + strings.Index(url[i:], "/")
	server := url[i+1 : j]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, url: url[:i+1] + ln.Addr().String() + url[j:] + "?sslmode=disable"}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", server)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { p.pump(client, up) })
			wg.Go(func() { copyUntil(client, up) })
		}
	})
	return p
}

func (p *proxy) breakAt(word string, let bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.let, p.hit = word, let, false
}

// hangAt has a connection stand still at a word, until the test ends.
func (p *proxy) hangAt(word string) {
	hang := make(chan struct{})
	p.t.Cleanup(func() { close(hang) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.hang, p.hit = word, hang, false
}

func (p *proxy) broken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hit
}

// pump carries what the client says.
func (p *proxy) pump(client, up net.Conn) {
	defer client.Close()
	defer up.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		word := p.at
		hit := word != "" && strings.Contains(string(buf[:n]), word)
		if hit {
			p.at, p.hit = "", true
		}
		let, hang := p.let, p.hang
		p.mu.Unlock()
		if hit && hang != nil {
			_, _ = up.Write(buf[:bytes.Index(buf[:n], []byte(word))]) // that it fails shows in what the test waits for
			<-hang
			return
		}
		if hit && let {
			_ = client.Close() // before the answer can pass
		}
		if !hit || let {
			if _, err := up.Write(buf[:n]); err != nil {
				return
			}
		}
		if hit {
			return // the server works on what it has; its answer goes nowhere
		}
	}
}

func copyUntil(client, up net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if err != nil {
			_ = client.Close()
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestTopicTroubles(t *testing.T) {
	url, _ := pg(t)
	s := newSink(t, url, nil)
	l := start(t, s)
	l.write(upsert(1, "a", nil), upsert(2, "b", nil))
	l.flush()
	again := assigned(0)
	again.TopicID = [16]byte{8}
	_, err := tryStart(t, s, again, epochs.Add(1))
	fatalWith(t, err, "deleted and created again", "up to offset 1", "DELETE FROM")
	gone := assigned(0)
	gone.StartOffset = 10
	_, err = tryStart(t, s, gone, epochs.Add(1))
	fatalWith(t, err, "offsets 2 to 9 are lost", "UPDATE")
	short := assigned(0)
	short.EndOffset = 1
	_, err = tryStart(t, s, short, epochs.Add(1))
	fatalWith(t, err, "the log ends at 1")
	// Another topic wants the same table.
	other := assigned(0)
	other.Topic = "copy.public.orders"
	_, err = tryStart(t, newSink(t, url, map[string]string{"topics": "copy.*"}), other, epochs.Add(1))
	fatalWith(t, err, "already holds topic "+topic)
	both := newSink(t, url, map[string]string{"topics": "*.fresh", "schema": "s2"})
	l2 := &life{t: t, tp: connectors.TopicPartition{Topic: "a.fresh"}}
	l2.task = both.Task(connectors.SinkEnv{Env: s.env, TaskID: "x", Epoch: epochs.Add(1)}).(*task)
	if err := l2.task.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l2.task.Close() }() // only its error counts here
	_, err = l2.task.Recover(context.Background(), []connectors.Assignment{{TopicPartition: connectors.TopicPartition{Topic: "a.fresh"}, EndOffset: 9}, {TopicPartition: connectors.TopicPartition{Topic: "b.fresh"}, EndOffset: 9}})
	fatalWith(t, err, "a.fresh", "b.fresh", "table s2.fresh")
}

// A server that stops answering in the middle is an error to try again after, not a fatal one.
func TestSessionEnded(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, nil))
	l.write(upsert(1, "a", nil))
	rows(t, c, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	l.flush() // a new session takes the commit over
	holds(t, c, "SELECT id, name FROM orders", "1|a")
	var lost *sessionLost
	if errors.As(errors.New("x"), &lost) {
		t.Error("every error looks like a lost session")
	}
}

// A failover to a server that was behind takes offset and rows back together. Nobody has taken the partition over, so
// nobody has to be asked: the next task writes what is missing.
func TestTargetGoesBack(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, nil)
	l := start(t, s)
	l.write(upsert(1, "a", nil))
	l.flush()
	l.write(upsert(2, "b", nil))
	l.flush()
	rows(t, c, "DELETE FROM orders WHERE id = 2; UPDATE _forebay_offsets SET next_offset = 1")
	l.write(upsert(3, "c", nil))
	err := l.tryFlush()
	if err == nil || connectors.IsFatal(err) || !strings.Contains(err.Error(), "stands at offset 1") {
		t.Fatalf("the commit gives %v", err)
	}
	holds(t, c, "SELECT id FROM orders", "1")
	l = start(t, s)
	if l.next != 1 {
		t.Fatalf("resumes at %d", l.next)
	}
	l.write(upsert(2, "b", nil), upsert(3, "c", nil))
	l.flush()
	holds(t, c, "SELECT id FROM orders ORDER BY id", "1", "2", "3")
}

// What stops the whole server for a while is not the table's fault, although its code says that a limit is exceeded.
func TestWraparoundPasses(t *testing.T) {
	for routine, fatal := range map[string]bool{"_bt_check_third_page": true, "RelationGetBufferForTuple": true, "GetNewTransactionId": false, "GetNewMultiXactId": false} {
		if err := classify(&pgconn.PgError{Code: "54000", Routine: routine}, ""); connectors.IsFatal(err) != fatal {
			t.Errorf("%s: %v", routine, err)
		}
	}
}
