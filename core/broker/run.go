package broker

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run serves until ctx ends, then stops in good order. It is called once.
//
// The order of the end, in one place: (one of several: give away what it leads →) stop accepting and drain the requests under way → end the
// coordinators → end maintenance → close the logs (flushed) → close the syncer → close the metadata → mark the
// directory as clean → unlock.
func (b *Broker) Run(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.Background())
	defer stopBackground()
	var rooms errgroup.Group
	run := func(what string, fn func(context.Context) error) {
		rooms.Go(func() error {
			err := fn(background)
			if err != nil && !errors.Is(err, context.Canceled) {
				b.fail(err)
				return err
			}
			if background.Err() == nil {
				b.o.Logger.Error("a room ended early", "room", what)
			}
			return nil
		})
	}
	run("groups", b.groups.Run)
	run("transactions", b.txns.Run)
	run("replicas", b.replicas.Run)
	run("maintenance", b.maintain)
	run("compaction", b.clean)
	run("scrub", b.scrub)
	for _, l := range b.listeners {
		if l.jwks != nil {
			run("keys of tokens", l.jwks.Run)
		}
	}

	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	served := make(chan error, 1)
	go func() { served <- b.serve(serving) }()
	close(b.ready)

	var err error
	select {
	case <-ctx.Done():
	case <-b.failed:
	case err = <-served:
		served <- nil
		if err == nil && ctx.Err() == nil {
			err = errors.New("the listener ended")
		}
	}
	b.leave()
	stopServing()
	if serr := <-served; err == nil {
		err = serr
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	b.dialing.Lock()
	b.stopDial()
	b.dialing.Unlock()
	b.dialed.Wait()
	stopBackground()
	_ = rooms.Wait() // kept by fail
	cerr := b.close(true)
	select {
	case <-b.failed:
		return b.failure
	default:
	}
	if err == nil {
		err = cerr
	}
	return err
}

// serve serves every listener, until ctx or one of them ends.
func (b *Broker) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range b.doors {
		g.Go(func() error { return b.server.Serve(ctx, d) })
	}
	return g.Wait()
}

// Close ends a Broker that was never Run.
func (b *Broker) Close() error { return b.close(true) }

// close is the second half of the end. Only when everything was closed without an
// error, and the logs had been opened, is the directory marked as clean.
func (b *Broker) close(mark bool) error {
	b.closeOnce.Do(func() {
		var errs []error
		note := func(err error) {
			if err != nil {
				errs = append(errs, err)
			}
		}
		b.stopDial()
		for _, l := range b.listeners {
			if l.l == nil {
				continue
			}
			if err := l.l.Close(); !errors.Is(err, net.ErrClosed) {
				note(err)
			}
		}
		if b.peers != nil {
			b.peers.close()
		}
		if b.replicas != nil {
			note(b.replicas.Close())
		}
		if b.logDirs != nil {
			for _, d := range b.logDirs.dirs {
				if d.Syncer != nil {
					d.Syncer.Close()
				}
			}
		}
		if b.members != nil {
			note(b.members.Close())
		}
		if b.quorum != nil {
			note(b.quorum.Close())
		}
		if b.links != nil {
			note(b.links.Close())
		}
		note(b.early.Wait())
		if b.dir != nil {
			select {
			case <-b.failed:
				mark = false
			default:
			}
			mark = mark && len(errs) == 0 && b.recovered
			if b.logDirs != nil {
				note(b.logDirs.close(mark))
				mark = mark && b.logDirs.dataRecovered()
			}
			if mark {
				if err := b.dir.markClean(); err != nil {
					// On a full disk, for one: the next start only takes longer.
					b.o.Logger.Warn("the data directory could not be marked as clean: the next start will recover it", "err", err)
				}
			}
			note(b.dir.unlock())
		}
		b.closeErr = errors.Join(errs...)
	})
	return b.closeErr
}

// firstMaintenance is when logs are looked at for the first time; not at once, so that a start has the disk for itself.
const firstMaintenance = 30 * time.Second

// maintain looks after retention, log by log, in one goroutine.
func (b *Broker) maintain(ctx context.Context) error {
	every := b.control.Duration("log.retention.check.interval.ms")
	timer := time.NewTimer(min(firstMaintenance, every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		b.replicas.Maintain(ctx)
		timer.Reset(every)
	}
}

// Dial connects in memory, without a socket: for a worker in the same process. It waits until this node serves.
func (b *Broker) Dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-b.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b.dialing.Lock()
	defer b.dialing.Unlock()
	if b.serving.Err() != nil {
		return nil, net.ErrClosed
	}
	client, peer := Pipe(b.listeners[0].l.Addr())
	b.dialed.Go(func() { b.server.ServeConn(b.serving, peer) })
	return client, nil
}

// Secured says whether nodes have to say who they are to each other, or encrypt: then only DialAddr reaches them.
func (b *Broker) Secured() bool { return b.listeners[0].protocol != plaintext }

// DialAddr connects to the node that has registered at an address: in memory when that is this one, and else as this node comes to
// others. The connection is this node's own already: nothing has to be said on it about who that is.
func (b *Broker) DialAddr(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ownHost, ownPort, _ := b.reached()
	if addr == b.KafkaAddr() || host == ownHost && port == ownPort {
		return b.Dial(ctx)
	}
	return b.dialAddr(ctx, host, port)
}
