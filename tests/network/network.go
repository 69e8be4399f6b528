//go:build linux

// Package network is a small network of hosts on one machine, each in a Linux network namespace of its own, joined by a switch that is this
// process: every packet between two hosts passes here, and is delivered, delayed, lost or cut off, each direction by itself. It needs neither
// ip, tc nor netfilter, nor a kernel that has netem; only /dev/net/tun and the right to make namespaces.
//
// Host 0 is this process (Enter puts it into a namespace); the others run what Host.Do starts.
package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// Network is the switch. All methods may be called concurrently.
type Network struct {
	hosts []*Host

	mu struct {
		sync.Mutex
		links  [][]Link // [from][to]
		random *rand.Rand
		queued int // packets that wait for their delay
	}
	reading sync.WaitGroup
}

// Link is how packets fare in one direction. The zero Link delivers all at once.
type Link struct {
	Cut    bool
	Delay  time.Duration
	Jitter time.Duration // added to Delay, from 0 to this; packets overtake each other
	Loss   float64       // of one
}

// Host is one namespace with one interface.
type Host struct {
	Addr netip.Addr
	tun  *os.File
	work chan func() // done by the thread that lives in the namespace
	done chan struct{}
}

const (
	mtu       = 9000
	maxQueued = 20000 // packets, 180 MB at most; beyond it they are lost, as in a switch that is full
)

// New makes a network of this process and count other hosts, at 10.1.0.1 and so on. It ends with the test.
func New(tb testing.TB, count int, seed uint64) *Network {
	tb.Helper()
	n := &Network{}
	n.mu.random = rand.New(rand.NewPCG(seed, 0x6e657477))
	n.mu.links = make([][]Link, count+1)
	for i := range count + 1 {
		n.mu.links[i] = make([]Link, count+1)
		h, err := newHost(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), i > 0)
		if err != nil {
			tb.Fatalf("a network of namespaces: host %d: %v", i, err)
		}
		n.hosts = append(n.hosts, h)
	}
	for i, h := range n.hosts {
		n.reading.Go(func() { n.forward(i, h) })
	}
	tb.Cleanup(n.close)
	return n
}

func (n *Network) close() {
	for _, h := range n.hosts {
		_ = h.tun.Close() // ends its reader
	}
	n.reading.Wait()
	for _, h := range n.hosts {
		if h.work != nil {
			close(h.work)
			<-h.done
		}
	}
}

// Host gives the host with that number, from 1.
func (n *Network) Host(i int) *Host { return n.hosts[i] }

// Set makes the link from one host to another what it says.
func (n *Network) Set(from, to int, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.links[from][to] = l
}

// Heal makes all links deliver.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, to := range n.mu.links {
		clear(to)
	}
}

// forward takes packets from a host until its interface is closed.
func (n *Network) forward(from int, h *Host) {
	packet := make([]byte, 65536)
	for {
		size, err := h.tun.Read(packet)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			panic(fmt.Sprintf("read from the interface of host %d: %v", from, err))
		}
		to, ok := n.destination(packet[:size])
		if !ok {
			continue // IPv6's own chatter, multicast
		}
		delay, deliver := n.fate(from, to)
		switch {
		case !deliver:
		case delay == 0:
			n.deliver(to, packet[:size])
		default:
			later := append([]byte(nil), packet[:size]...)
			time.AfterFunc(delay, func() {
				n.mu.Lock()
				n.mu.queued--
				n.mu.Unlock()
				n.deliver(to, later)
			})
		}
	}
}

// deliver drops what an interface does not take: it is closed, or its queue is full.
func (n *Network) deliver(to int, packet []byte) { _, _ = n.hosts[to].tun.Write(packet) }

// destination of an IPv4 packet.
func (n *Network) destination(p []byte) (to int, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 || binary.BigEndian.Uint16(p[16:]) != 10<<8|1 || p[18] != 0 {
		return 0, false
	}
	return int(p[19]), int(p[19]) < len(n.hosts)
}

func (n *Network) fate(from, to int) (delay time.Duration, deliver bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.mu.links[from][to]
	if l.Cut || l.Loss > 0 && n.mu.random.Float64() < l.Loss {
		return 0, false
	}
	delay = l.Delay
	if l.Jitter > 0 {
		delay += time.Duration(n.mu.random.Int64N(int64(l.Jitter)))
	}
	if delay > 0 {
		if n.mu.queued >= maxQueued {
			return 0, false
		}
		n.mu.queued++
	}
	return delay, true
}
