package broker

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/wire"
)

// following is how this node replicates what others lead.
func (b *Broker) following() replica.Following {
	c := b.control
	return replica.Following{
		Dial: b.dialNode, ISR: c, Lag: c.Duration("replica.lag.time.max.ms"), Wait: c.Duration("replica.fetch.wait.max.ms"),
		PartBytes: int32(c.Int("replica.fetch.max.bytes")), MaxBytes: int32(c.Int("replica.fetch.response.max.bytes")),
		NewEpoch: func(ctx context.Context, p *metadata.Partition) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			r, err := b.quorum.Propose(ctx, &metadata.ChangePartition{
				Topic: p.TopicID, Number: p.Number, Expected: p.PartitionEpoch, Leader: p.Leader, ISR: p.ISR, NewEpoch: true,
			})
			if err == nil {
				err = r.Err
			}
			return err
		},
		NodeEpoch: func() int64 {
			if n := b.quorum.Image().Nodes[b.o.NodeID]; n != nil {
				return n.Epoch
			}
			return -1
		},
	}
}

// dialNode connects to another node's Kafka listener, where it has registered.
func (b *Broker) dialNode(ctx context.Context, node metadata.NodeID) (net.Conn, error) {
	n := b.quorum.Image().Nodes[node]
	if n == nil {
		return nil, fmt.Errorf("node %d is not registered", node)
	}
	return b.dialAddr(ctx, n.Host, n.Port)
}

// dialAddr connects to a listener for nodes, and says who this is.
func (b *Broker) dialAddr(ctx context.Context, host string, port int32) (net.Conn, error) {
	d := net.Dialer{Timeout: 2 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	known, err := b.approach.meet(ctx, nc, host)
	if err != nil {
		_ = nc.Close() // what was wrong with it is told already
		return nil, err
	}
	return known, nil
}

// peers asks other nodes for what coordinators need of them (txn.Peers). It keeps a few connections to each.
type peers struct {
	dial func(context.Context, metadata.NodeID) (net.Conn, error)
	name string

	mu     sync.Mutex
	idle   map[metadata.NodeID][]*wire.Client
	closed bool
}

const (
	// peerTimeout is for one question; AddPartitionsToTxn may be parked behind the producer's last transaction.
	peerTimeout   = 10 * time.Second
	peerIdle      = 8       // connections kept to a node
	peerResponses = 4 << 20 // bytes of one
)

func newPeers(node metadata.NodeID, dial func(context.Context, metadata.NodeID) (net.Conn, error)) *peers {
	return &peers{dial: dial, name: fmt.Sprintf("forebay-coordinator-%d", node), idle: map[metadata.NodeID][]*wire.Client{}}
}

func (p *peers) WriteTxnMarkers(ctx context.Context, node metadata.NodeID, req *kmsg.WriteTxnMarkersRequest) (*kmsg.WriteTxnMarkersResponse, error) {
	resp, err := p.ask(ctx, node, req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.WriteTxnMarkersResponse), nil
}

func (p *peers) AddPartitionsToTxn(ctx context.Context, node metadata.NodeID, req *kmsg.AddPartitionsToTxnRequest) (*kmsg.AddPartitionsToTxnResponse, error) {
	resp, err := p.ask(ctx, node, req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.AddPartitionsToTxnResponse), nil
}

// ask sends a request that may be repeated without harm: an idle connection may have been closed by the other side, so a
// fresh one is tried after it.
func (p *peers) ask(ctx context.Context, node metadata.NodeID, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	for {
		c, used := p.take(node)
		if c == nil {
			nc, err := p.dial(ctx, node)
			if err != nil {
				return nil, fmt.Errorf("node %d: %w", node, err)
			}
			c = wire.NewClient(nc, p.name, peerResponses)
		}
		resp, err := c.Do(ctx, req)
		if err == nil {
			p.give(node, c) // these responses have nothing of the Client's memory: kmsg copies strings
			return resp, nil
		}
		_ = c.Close() // what was wrong with it is told already
		if !used || ctx.Err() != nil {
			return nil, fmt.Errorf("node %d: %w", node, err)
		}
	}
}

func (p *peers) take(node metadata.NodeID) (c *wire.Client, used bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[node]
	if len(list) == 0 {
		return nil, false
	}
	c = list[len(list)-1]
	p.idle[node] = list[:len(list)-1]
	return c, true
}

func (p *peers) give(node metadata.NodeID, c *wire.Client) {
	p.mu.Lock()
	if !p.closed && len(p.idle[node]) < peerIdle {
		p.idle[node] = append(p.idle[node], c)
		c = nil
	}
	p.mu.Unlock()
	if c != nil {
		_ = c.Close() // one too many
	}
}

// close ends the idle connections; those in use end with their question.
func (p *peers) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = map[metadata.NodeID][]*wire.Client{}, true
	p.mu.Unlock()
	for _, list := range idle {
		for _, c := range list {
			_ = c.Close() // nothing is under way on it
		}
	}
}
