// Package broker composes a node out of the rooms of core and owns every
// long-lived goroutine of it. It can be embedded as a library.
//
// STUB: the signatures are the contract; the cluster room replaces the bodies.
package broker

import (
	"context"
	"log/slog"
	"net"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Options make a node. The zero value, with a DataDir, works on a laptop.
type Options struct {
	NodeID     metadata.NodeID // 0: 1
	DataDir    string
	KafkaAddr  string // host:port; "": 127.0.0.1:9092; port 0 picks one
	Durability commitlog.Durability
	Set        map[string]string // Kafka broker properties
	FS         vfs.FS            // nil: the disk
	Logger     *slog.Logger      // nil: silent
}

// Broker is a running node.
type Broker struct{}

// Open locks the data directory, recovers and listens; Run serves. An error
// that the user can mend is a *problem.Error.
func Open(ctx context.Context, o Options) (*Broker, error) { panic("stub") }

// Run serves until ctx ends, then stops in good order. It is called once.
func (b *Broker) Run(ctx context.Context) error { panic("stub") }

// Ready is closed once requests are served in full: this node leads what it should.
func (b *Broker) Ready() <-chan struct{} { panic("stub") }

// KafkaAddr is the real listening address.
func (b *Broker) KafkaAddr() string { panic("stub") }

// Dial connects in memory, without a socket: for a worker in the same process.
func (b *Broker) Dial(ctx context.Context) (net.Conn, error) { panic("stub") }
