package broker

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/forebayhub/forebay/internal/reload"
	"github.com/forebayhub/forebay/internal/tlsdir"
)

// expiresSoon is how long before its end a certificate is talked of, once a day.
const expiresSoon = 30 * 24 * time.Hour

// gossipKeys gives the keys of gossip, as their file has them now. Nil: it is plain.
func (b *Broker) gossipKeys() (func() [][]byte, error) {
	path := b.o.Cluster.GossipKey
	switch {
	case path != "":
		v, err := reload.New([]string{path}, func() ([][]byte, error) { return tlsdir.LoadKeys(path) }, func(err error) {
			b.o.Logger.Warn("changed keys of gossip are not taken over; those that were there before go on to count", "err", err)
		})
		return v.Get, err
	case b.secrets != nil:
		return b.secrets.GossipKeys, nil
	}
	return func() [][]byte { return nil }, nil
}

// keepKeys gives gossip the keys that its file has, whenever they change from those that it has.
func (b *Broker) keepKeys(ctx context.Context, has [][]byte, keys func() [][]byte) {
	tick := time.NewTicker(reload.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := keys()
		if slices.EqualFunc(has, now, bytes.Equal) {
			continue
		}
		has = now
		if err := b.members.SetKeys(now); err != nil {
			b.o.Logger.Error("gossip has not taken its new keys", "err", err)
			continue
		}
		b.o.Logger.Info("gossip has other keys", "keys", len(now))
	}
}

// tellExpiry tells once a day when this node's certificate is about to end.
func (b *Broker) tellExpiry(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		if end := b.secrets.Expires(); time.Until(end) < expiresSoon {
			b.o.Logger.Warn("this node's certificate is about to expire; then no other node talks to it", "at", end, "hint", "forebay tls init --renew")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// closeRevoked ends the connections of who has shown a certificate that was revoked since.
func (b *Broker) closeRevoked(ctx context.Context) {
	tick := time.NewTicker(reload.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n := b.secrets.CloseRevoked(); n > 0 {
			b.o.Logger.Warn("connections were closed: their certificates are revoked", "connections", n)
		}
	}
}
