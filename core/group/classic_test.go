package group

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestOneMember(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		c := n.client("g")
		r := c.joinOnce()
		wantCode(t, "first join", r.ErrorCode, kerr.MemberIDRequired.Code)
		c.id = r.MemberID
		r = c.join()
		wantCode(t, "join", r.ErrorCode, 0)
		if r.Generation != 1 || r.LeaderID != c.id || len(r.Members) != 1 || *r.Protocol != "range" {
			t.Fatalf("join: %+v", r)
		}
		wantCode(t, "commit before sync", c.commit(0, 1), kerr.RebalanceInProgress.Code)
		s := c.sync(map[string]string{c.id: "all"})
		wantCode(t, "sync", s.ErrorCode, 0)
		if string(s.MemberAssignment) != "all" {
			t.Fatalf("assignment %q", s.MemberAssignment)
		}
		wantCode(t, "commit", c.commit(0, 7), 0)
		wantCode(t, "heartbeat", c.heartbeat(), 0)
		if o, _ := n.fetch("g", 0, false); o != 7 {
			t.Fatalf("fetched %d", o)
		}
		wantCode(t, "leave", c.leave(), 0)
		if got := n.state("g"); got != "Empty" {
			t.Fatalf("state %s", got)
		}
	})
}

func TestRebalanceByNewMember(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 1)
		b := n.client("g")
		joined := b.joinAsync()
		wantCode(t, "heartbeat", cs[0].heartbeat(), kerr.RebalanceInProgress.Code)
		wantCode(t, "commit while members come together", cs[0].commit(0, 3), 0)
		r := cs[0].join()
		wantCode(t, "leader's join", r.ErrorCode, 0)
		if len(r.Members) != 2 || r.Generation != 2 {
			t.Fatalf("leader was told %+v", r)
		}
		rb := <-joined
		wantCode(t, "new member's join", rb.ErrorCode, 0)
		if len(rb.Members) != 0 {
			t.Fatal("a follower was told the members")
		}
		waiting := b.syncAsync(nil)
		wantCode(t, "leader's sync", cs[0].sync(map[string]string{cs[0].id: "x", b.id: "y"}).ErrorCode, 0)
		if s := <-waiting; s.ErrorCode != 0 || string(s.MemberAssignment) != "y" {
			t.Fatalf("follower's sync %+v", s)
		}
		old := *cs[0]
		old.gen = 1
		wantCode(t, "old generation", old.heartbeat(), kerr.IllegalGeneration.Code)
		wantCode(t, "old generation's commit", old.commit(0, 1), kerr.IllegalGeneration.Code)
	})
}

func TestSessionTimeout(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 2)
		for range 12 { // the second member is silent
			<-time.After(tick)
			cs[0].heartbeat()
		}
		wantCode(t, "heartbeat of the one that is left", cs[0].heartbeat(), kerr.RebalanceInProgress.Code)
		wantCode(t, "heartbeat of the one that is out", cs[1].heartbeat(), kerr.UnknownMemberID.Code)
		r := cs[0].join()
		wantCode(t, "join", r.ErrorCode, 0)
		if len(r.Members) != 1 {
			t.Fatalf("%d members", len(r.Members))
		}
	})
}

func TestRebalanceTimeoutPutsOutWhoDoesNotJoin(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 2)
		c := n.client("g")
		joined := c.joinAsync()
		began := time.Now()
		stop := make(chan struct{})
		beats := make(chan struct{})
		go func() { // it lives, but does not join: a consumer that hangs in its processing
			defer close(beats)
			for {
				select {
				case <-stop:
					return
				case <-time.After(tick):
					cs[1].heartbeat()
				}
			}
		}()
		first := cs[0].joinAsync()
		r := <-joined
		close(stop)
		<-beats
		wantCode(t, "join", r.ErrorCode, 0)
		wantCode(t, "join", (<-first).ErrorCode, 0)
		if d := time.Since(began); d != 60*time.Second {
			t.Fatalf("took %v", d)
		}
		wantCode(t, "heartbeat of the one that did not join", cs[1].heartbeat(), kerr.UnknownMemberID.Code)
	})
}

func TestLeaderFailsDuringSync(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a, b := n.client("g"), n.client("g")
		rejoin(t, []*client{a, b})
		ja := a.joinAsync() // the leader asks for a rebalance
		jb := b.joinAsync()
		<-ja
		<-jb
		s := b.syncAsync(nil) // and is never heard of again
		r := <-s
		wantCode(t, "follower's sync", r.ErrorCode, kerr.RebalanceInProgress.Code)
		j := b.join()
		wantCode(t, "follower's join", j.ErrorCode, 0)
		if j.LeaderID != b.id {
			t.Fatal("the follower does not lead")
		}
	})
}

func TestStaticMember(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		name := "pod-0"
		a, b := n.client("g"), n.client("g")
		b.instance = &name
		rejoin(t, []*client{a, b})
		again := n.client("g") // the pod was restarted
		again.instance = &name
		r := again.join()
		wantCode(t, "join after a restart", r.ErrorCode, 0)
		if r.Generation != a.gen || again.id == b.id {
			t.Fatalf("a restart of a static member made generation %d of %d, member %s", r.Generation, a.gen, again.id)
		}
		s := again.sync(nil)
		if string(s.MemberAssignment) != "1" {
			t.Fatalf("assignment %q is not what it was", s.MemberAssignment)
		}
		wantCode(t, "heartbeat of the old process", b.heartbeat(), kerr.FencedInstanceID.Code)
		wantCode(t, "commit of the old process", b.commit(0, 1), kerr.FencedInstanceID.Code)
		wantCode(t, "heartbeat of the other", a.heartbeat(), 0)
		n.restart() // the new member id was written
		wantCode(t, "heartbeat after the coordinator's restart", again.heartbeat(), 0)
	})
}

func TestStaticLeaderSkipsAssignment(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		name := "pod-0"
		a := n.client("g")
		a.instance = &name
		rejoin(t, []*client{a})
		again := n.client("g")
		again.instance = &name
		r := again.join()
		wantCode(t, "join", r.ErrorCode, 0)
		if !r.SkipAssignment || r.LeaderID != again.id || len(r.Members) != 1 {
			t.Fatalf("leader was told %+v", r)
		}
		old := n.client("g")
		old.instance, old.version = &name, 8
		r = old.join()
		if r.SkipAssignment || r.LeaderID == old.id {
			t.Fatalf("leader before v9 was told %+v", r)
		}
	})
}

func TestRestartKeepsGroup(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 2)
		cs[0].commit(0, 41)
		cs[0].commit(0, 42)
		n.restart()
		if o, code := n.fetch("g", 0, true); o != 42 || code != 0 {
			t.Fatalf("offset %d, code %d", o, code)
		}
		for i, c := range cs {
			wantCode(t, "heartbeat", c.heartbeat(), 0)
			if s := c.sync(nil); s.ErrorCode != 0 || string(s.MemberAssignment) != string(rune('0'+i)) {
				t.Fatalf("sync %+v", s)
			}
		}
		for range 11 {
			<-time.After(tick)
			cs[0].heartbeat()
		}
		wantCode(t, "the silent one", cs[1].heartbeat(), kerr.UnknownMemberID.Code)
	})
}

// A static member whose session ends while its return is being written, and of which nothing is heard after that, goes like any other.
func TestStaticMemberThatIsGoneOnceItIsBack(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		name := "pod-0"
		a, b := n.client("g"), n.client("g")
		b.instance = &name
		rejoin(t, []*client{a, b})
		again := n.client("g")
		again.instance = &name
		n.log.Hold()
		joined := again.joinAsync()
		synctest.Wait()
		beats := func() (code int16) {
			for range 15 { // its session is 10 s
				<-time.After(tick)
				code = a.heartbeat()
			}
			return code
		}
		wantCode(t, "while it waits", beats(), 0)
		n.log.Release()
		wantCode(t, "join", (<-joined).ErrorCode, 0)
		wantCode(t, "once its session is over", beats(), kerr.RebalanceInProgress.Code)
	})
}

// Nothing that was not acknowledged by the log is told to anybody: an offset that a client has seen never steps back.
func TestCommitAnswersOnlyWhenDurable(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		c := n.client("g")
		c.id, c.gen = "", -1
		wantCode(t, "commit", c.commit(0, 1), 0)
		n.log.Hold()
		answered := make(chan int16, 1)
		go func() { answered <- c.commit(0, 2) }()
		synctest.Wait()
		select {
		case <-answered:
			t.Fatal("answered before the record was durable")
		default:
		}
		if o, _ := n.fetch("g", 0, false); o != 1 {
			t.Fatalf("fetched %d, which a power cut would take back", o)
		}
		n.log.Release()
		wantCode(t, "commit", <-answered, 0)
		if o, _ := n.fetch("g", 0, false); o != 2 {
			t.Fatalf("fetched %d", o)
		}
		n.log.Hold()
		go func() { answered <- c.commit(0, 3) }()
		synctest.Wait()
		n.restart()
		wantCode(t, "commit over the crash", <-answered, kerr.NotCoordinator.Code)
		if o, _ := n.fetch("g", 0, false); o != 2 {
			t.Fatalf("fetched %d after the crash", o)
		}
	})
}

func TestAppendFails(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		c := n.client("g")
		n.log.Fail(errors.New("disk on fire"))
		c.gen = -1
		if code := c.commit(0, 1); code == 0 {
			t.Fatal("commit succeeded")
		}
		j := c.join()
		wantCode(t, "join", j.ErrorCode, 0)
		if s := c.sync(map[string]string{c.id: "x"}); s.ErrorCode == 0 {
			t.Fatal("sync succeeded")
		}
		n.log.Fail(nil)
		wantCode(t, "join", c.join().ErrorCode, 0)
		wantCode(t, "sync", c.sync(map[string]string{c.id: "x"}).ErrorCode, 0)
	})
}

func TestMaxSize(t *testing.T) {
	testNode(t, Options{MaxSize: 1}, func(t *testing.T, n *node) {
		stableGroup(t, n, 1)
		wantCode(t, "one too many", n.client("g").join().ErrorCode, kerr.GroupMaxSizeReached.Code)
	})
}

func TestInitialDelayGathersMembers(t *testing.T) {
	testNode(t, Options{InitialRebalanceDelay: 3 * time.Second}, func(t *testing.T, n *node) {
		a, b := n.client("g"), n.client("g")
		began := time.Now()
		ja := a.joinAsync()
		<-time.After(2 * time.Second)
		jb := b.joinAsync()
		ra, rb := <-ja, <-jb
		if ra.Generation != 1 || rb.Generation != 1 {
			t.Fatalf("generations %d and %d", ra.Generation, rb.Generation)
		}
		if d := time.Since(began); d < 3*time.Second || d > 9*time.Second {
			t.Fatalf("took %v", d)
		}
	})
}

func TestInconsistentProtocol(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		stableGroup(t, n, 1)
		c := n.client("g")
		c.protos = []kmsg.JoinGroupRequestProtocol{{Name: "sticky"}}
		wantCode(t, "join", c.join().ErrorCode, kerr.InconsistentGroupProtocol.Code)
	})
}

func TestDisconnectedMemberIsForgotten(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 1)
		gone := n.client("g")
		gone.version = 3 // no member id first
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.ProtocolType, r.Protocols = 3, "g", "consumer", gone.protos
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 10_000, 300_000
		c, cancel := contextWithCancel()
		done := make(chan struct{})
		go func() { defer close(done); n.c.JoinGroup(c, r, Client{}) }()
		synctest.Wait()
		cancel()
		<-done
		began := time.Now()
		wantCode(t, "join", cs[0].join().ErrorCode, 0)
		if d := time.Since(began); d > 11*time.Second {
			t.Fatalf("the group waited %v for a member whose connection is closed", d)
		}
	})
}

// What a member offers is compared with what all others do: once for each, not each with each.
func TestManyProtocols(t *testing.T) {
	offered := func(n int, last string) []kmsg.JoinGroupRequestProtocol {
		ps := make([]kmsg.JoinGroupRequestProtocol, 0, n)
		for i := range n - 1 {
			ps = append(ps, kmsg.JoinGroupRequestProtocol{Name: fmt.Sprint(last, i)})
		}
		return append(ps, kmsg.JoinGroupRequestProtocol{Name: last})
	}
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a, b := n.client("g"), n.client("g")
		a.version, b.version = 3, 3
		a.protos = offered(100_000, "range")
		wantCode(t, "a join with 100,000 protocols", a.join().ErrorCode, kerr.InconsistentGroupProtocol.Code)
		a.protos = append(offered(50, "mine"), offered(50, "range")...)
		b.protos = append(offered(50, "other"), offered(50, "range")...)
		b.protos[0].Name = "only"
		b.protos[1].Name = "only" // twice is not by two
		wantCode(t, "first join", a.join().ErrorCode, 0)
		joined := b.joinAsync()
		wantCode(t, "first member's second join", a.join().ErrorCode, 0)
		rb := <-joined
		wantCode(t, "second join", rb.ErrorCode, 0)
		if *rb.Protocol != "range0" {
			t.Fatalf("the group speaks %s", *rb.Protocol)
		}
	})
	// The work itself, in a group that was not asked how many protocols its members have.
	many, others := &member{protocols: offered(30_000, "x")}, offered(30_000, "y")
	g := &group{phase: preparing, protocolType: "consumer", members: map[string]*member{"a": many, "b": {protocols: many.protocols}}}
	began := time.Now()
	if g.supports("consumer", others) {
		t.Error("a member joins that speaks nothing of what the others do")
	}
	if got := g.selectProtocol(); got != "x0" {
		t.Errorf("two members with the same protocols agree on %q", got)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// Whoever asks for member ids and never comes back leaves little behind, and others can still join.
func TestManyPendingMembers(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.ProtocolType, r.Protocols = 9, "g", "consumer", n.client("g").protos
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 1_800_000, 60_000
		for range maxPending + 100 {
			id := n.c.JoinGroup(ctx, r, Client{ID: strings.Repeat("é", 1<<14)}).MemberID
			if len(id) > 300 || !utf8.ValidString(id) {
				t.Fatalf("a member id of %d bytes", len(id))
			}
		}
		c := n.client("g")
		c.id = c.joinOnce().MemberID
		s, _ := n.c.lock(ctx, "g")
		pending := s.groups["g"].pending
		if len(pending) != maxPending || pending[c.id] == nil {
			t.Errorf("%d are waited for", len(pending))
		}
		s.unlock()
		wantCode(t, "join", (<-c.joinAsync()).ErrorCode, 0)
	})
}
