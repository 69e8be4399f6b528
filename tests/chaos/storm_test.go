//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/tests/ledger"
	"github.com/forebayhub/forebay/tests/network"
	"github.com/forebayhub/forebay/tests/node"
)

// diskBytes is the size of a node's disk, a tmpfs.
const diskBytes = 512 << 20

// cluster is what the storm goes over.
type cluster struct {
	t     *testing.T
	net   *network.Network
	admin *kadm.Client
	nodes []*member // from 1; 0 is nobody
	began time.Time

	mu     sync.Mutex
	counts map[kind]int
}

// member is a node with the lock of who does something to it.
type member struct {
	*node.Node
	sync.Mutex
	waiting bool // launched, and its ready line not seen yet
}

func (m *member) launch() error {
	m.waiting = true
	return m.Launch()
}

// weather lets a storm pass over the cluster, and waits until the last of its faults is over. A node that ends by itself is an error.
func (c *cluster) weather(storm []fault) error {
	began := time.Now()
	var under sync.WaitGroup
	var mu sync.Mutex
	var wrong error
	for _, f := range storm {
		pass(f.at - time.Since(began))
		under.Go(func() {
			c.t.Logf("%v %v", time.Since(c.began).Round(time.Millisecond), f)
			c.mu.Lock()
			c.counts[f.kind]++
			c.mu.Unlock()
			if err := c.meet(f); err != nil {
				mu.Lock()
				wrong = errors.Join(wrong, fmt.Errorf("%v: %w", f, err))
				mu.Unlock()
			}
		})
	}
	under.Wait()
	return wrong
}

// pass lets the time go by that the plan says: until the next fault, or until a fault ends. Nothing is awaited that could be asked for.
func pass(d time.Duration) { <-time.After(max(0, d)) }

func (c *cluster) meet(f fault) error {
	switch f.kind {
	case kill, killAll, term, pause, full:
		var all sync.WaitGroup
		errs := make([]error, len(f.nodes))
		for i, n := range f.nodes {
			all.Go(func() {
				m := c.nodes[n]
				m.Lock()
				defer m.Unlock()
				errs[i] = c.meetNode(f, m)
			})
		}
		all.Wait()
		return errors.Join(errs...)
	case elect:
		return c.elect()
	case reassign:
		return c.reassign(rand.New(rand.NewPCG(f.pick, 0)))
	}
	for _, pair := range c.links(f) {
		c.net.Set(pair[0], pair[1], f.link)
	}
	pass(f.lasts)
	for _, pair := range c.links(f) {
		c.net.Set(pair[0], pair[1], network.Link{})
	}
	return nil
}

func (c *cluster) meetNode(f fault, m *member) error {
	if m.Ended() {
		return fmt.Errorf("the node of %s had ended by itself:\n%s", m.Data, m.LogTail(30))
	}
	switch f.kind {
	case kill, killAll:
		m.Kill()
		pass(f.lasts)
		return m.launch()
	case term:
		begun := !m.waiting || m.Said()
		err := m.Stop()
		if exit := (*exec.ExitError)(nil); err != nil && (begun || !errors.As(err, &exit)) { // told to stop before it had begun it may say so by its exit code
			return fmt.Errorf("SIGTERM: %w\n%s", err, m.LogTail(30))
		}
		pass(f.lasts)
		return m.launch()
	case pause:
		if err := m.Pause(); err != nil {
			return err
		}
		pass(f.lasts)
		return m.Resume()
	}
	if err := shrink(m.Data); err != nil {
		return err
	}
	pass(f.lasts)
	return resize(m.Data, diskBytes)
}

// links that a fault is about, from and to.
func (c *cluster) links(f fault) (pairs [][2]int) {
	last := len(c.nodes) - 1
	both := func(a, b int) { pairs = append(pairs, [2]int{a, b}, [2]int{b, a}) }
	switch f.kind {
	case cut:
		both(f.nodes[0], f.nodes[1])
	case cutOne:
		pairs = [][2]int{{f.nodes[0], f.nodes[1]}}
	case deaf:
		for other := 1; other <= last; other++ {
			if other != f.nodes[0] {
				pairs = append(pairs, [2]int{other, f.nodes[0]})
			}
		}
	case isolate, blackout, split, slow, lossy:
		from := 1
		if f.kind == blackout || f.kind == slow || f.kind == lossy {
			from = 0 // the clients
		}
		for _, n := range f.nodes {
			for other := from; other <= last; other++ {
				if f.kind == slow || f.kind == lossy || !slices.Contains(f.nodes, other) {
					both(n, other)
				}
			}
		}
	}
	return pairs
}

// elect and reassign ask for something that may well be refused in a storm.
func (c *cluster) elect() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = c.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil) // nobody promised it
	return nil
}

func (c *cluster) reassign(random *rand.Rand) error {
	topics := ledger.Topics()
	topic := topics[random.IntN(len(topics))]
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	known, err := c.admin.ListTopicsWithInternal(ctx, topic)
	if err != nil || len(known[topic].Partitions) == 0 {
		return nil // nobody answers now
	}
	var to []int32
	for _, n := range random.Perm(len(c.nodes) - 1)[:3] {
		to = append(to, int32(n+1))
	}
	var r kadm.AlterPartitionAssignmentsReq
	r.Assign(topic, int32(random.IntN(len(known[topic].Partitions))), to)
	_, _ = c.admin.AlterPartitionAssignments(ctx, r) // nobody promised it
	return nil
}

// shrink makes a disk as small as what is on it.
func shrink(dir string) error {
	for {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return err
		}
		err := resize(dir, int64(s.Blocks-s.Bfree)*s.Bsize)
		if !errors.Is(err, unix.EINVAL) {
			return err
		} // it has grown meanwhile
	}
}

func resize(dir string, bytes int64) error {
	return unix.Mount("", dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", max(bytes, 4096))) // 0 would be without bound
}

// calm ends whatever is left of the storm, and waits until every node is ready and every replica in sync.
func (c *cluster) calm(within time.Duration) error {
	c.net.Heal()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for i, m := range c.nodes[1:] {
		if m.Ended() {
			return fmt.Errorf("node %d ended by itself:\n%s", i+1, m.LogTail(30))
		}
		if m.waiting {
			if err := m.Ready(within); err != nil {
				return fmt.Errorf("node %d: %w\n%s", i+1, err, m.LogTail(30))
			}
			m.waiting = false
		}
	}
	behind := ""
	for {
		now := c.behind(ctx)
		if now == "" {
			return nil
		}
		if ctx.Err() == nil || behind == "" { // the end of the time is no reason
			behind = now
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not every replica was in sync within %v: %s", within, behind)
		}
		pass(50 * time.Millisecond) // a cluster tells nobody when it is well: it is asked again
	}
}

// behind says which partitions are not as they should be.
func (c *cluster) behind(ctx context.Context) string {
	step, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	known, err := c.admin.ListTopicsWithInternal(step, ledger.Topics()...)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, t := range known.Sorted() {
		if t.Err != nil {
			out = append(out, t.Topic+": "+t.Err.Error())
		}
		for _, p := range t.Partitions.Sorted() {
			if p.Err != nil || p.Leader < 0 || len(p.Replicas) != 3 || len(p.ISR) != 3 {
				out = append(out, fmt.Sprintf("%s-%d: leader %d, replicas %v, in sync %v, %v", t.Topic, p.Partition, p.Leader, p.Replicas, p.ISR, p.Err))
			}
		}
	}
	return strings.Join(out, "; ")
}

// confessed is what a node's log says of itself that must never be: a follower that had to take back what was readable, a panic.
func (c *cluster) confessed() error {
	for i, m := range c.nodes[1:] {
		for line := range strings.Lines(m.LogTail(math.MaxInt)) {
			if strings.Contains(line, "below the high watermark") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
				return fmt.Errorf("node %d: %s", i+1, line)
			}
		}
	}
	return nil
}

func (c *cluster) figures() string {
	total, parts := 0, []string(nil)
	for _, k := range slices.Sorted(maps.Keys(c.counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, c.counts[k]))
		total += c.counts[k]
	}
	return fmt.Sprintf("%d faults (%s)", total, strings.Join(parts, ", "))
}
