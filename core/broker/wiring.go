package broker

import (
	"time"

	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/quota"
	"github.com/forebayhub/forebay/core/server"
	"github.com/forebayhub/forebay/core/txn"
)

// wire makes the coordinators and the server; none of them starts a goroutine before Run.
func (b *Broker) wire() error {
	_, connections := descriptors()
	c := b.control
	b.peers = newPeers(b.o.NodeID, b.dialNode)
	var lease group.Lease
	var leased func() bool
	if b.active != nil {
		lease, leased = b.active, b.active.Leased
	}
	b.groups = group.New(group.Deps{
		NodeID: b.o.NodeID, Replicas: b.replicas, Controller: c, Lease: lease, Logger: b.loggers.Logger("group"),
		Options: group.Options{
			MinSessionTimeout: c.Duration("group.min.session.timeout.ms"), MaxSessionTimeout: c.Duration("group.max.session.timeout.ms"),
			InitialRebalanceDelay: c.Duration("group.initial.rebalance.delay.ms"), MaxSize: int(c.Int("group.max.size")),
			OffsetRetention: time.Duration(c.Int("offsets.retention.minutes")) * time.Minute, MaxMetadata: int(c.Int("offset.metadata.max.bytes")),
			Consumer: group.ConsumerOptions{
				SessionTimeout: c.Duration("group.consumer.session.timeout.ms"), HeartbeatInterval: c.Duration("group.consumer.heartbeat.interval.ms"),
				MinSessionTimeout: c.Duration("group.consumer.min.session.timeout.ms"), MaxSessionTimeout: c.Duration("group.consumer.max.session.timeout.ms"),
				MinHeartbeatInterval: c.Duration("group.consumer.min.heartbeat.interval.ms"), MaxHeartbeatInterval: c.Duration("group.consumer.max.heartbeat.interval.ms"),
				MaxSize: int(c.Int("group.consumer.max.size")), Migration: c.Value("group.consumer.migration.policy"),
			},
		},
	})
	b.txns = txn.New(txn.Deps{
		NodeID: b.o.NodeID, Replicas: b.replicas, Controller: c, Groups: b.groups, Peers: b.peers, Leased: leased, Logger: b.loggers.Logger("txn"),
		Options: txn.Options{MaxTimeout: c.Duration("transaction.max.timeout.ms"), IDExpiry: c.Duration("transactional.id.expiration.ms")},
	})
	rules, err := policy(c)
	if err != nil {
		return err
	}
	b.server = server.New(server.Deps{
		NodeID: b.o.NodeID, Replicas: b.replicas, Controller: c, Groups: b.groups, Txns: b.txns, Logger: b.loggers.Logger("server"), Loggers: b.loggers,
		MaxRequestBytes: int32(c.Int("socket.request.max.bytes")), MaxInFlightBytes: max(c.Int("queued.max.request.bytes"), 0),
		MaxConnections: int(min(c.Int("max.connections"), int64(connections))), MaxFetchBytes: int32(c.Int("fetch.max.bytes")),
		FetchSessions: int(c.Int("max.incremental.fetch.session.cache.slots")), IdleTimeout: c.Duration("connections.max.idle.ms"),
		NoAutoCreate: c.Value("auto.create.topics.enable") == "false", FS: b.o.FS, Leased: leased,
		QuotaWindow: b.quotaWindow(""), MutationWindow: b.quotaWindow("controller."),
		Policy: rules, FailureDelay: c.Duration("connection.failed.authentication.delay.ms"),
		DescribeQuorum: b.quorum.Describe,
	})
	for _, l := range b.listeners {
		d, err := l.server(c.Scram)
		if err != nil {
			return err
		}
		b.doors = append(b.doors, d)
	}
	return nil
}

func (b *Broker) quotaWindow(of string) quota.Window {
	return quota.Window{
		Samples: int(b.control.Int(of + "quota.window.num")), Size: time.Duration(b.control.Int(of+"quota.window.size.seconds")) * time.Second,
	}
}
