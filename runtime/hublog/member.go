package hublog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// memberSession is how long a worker may be silent before the log takes it out of its group: the least that Kafka's
	// brokers allow by default (group.min.session.timeout.ms).
	memberSession = 6 * time.Second
	// memberBeat is how often a worker is heard of, and how soon it hears that the group shares out anew.
	memberBeat = 500 * time.Millisecond
	// memberRejoin bounds how long the group waits for a member that hangs, each time that it shares out anew.
	memberRejoin = 10 * time.Second
	// memberPatience is the wait after an error that may pass.
	memberPatience = time.Second
	// The group's protocol type and protocol: beside "consumer" and "connect" a third one, so that no consumer joins by mistake.
	memberType, memberProtocol = "forebay", "share"
)

// Attendee is a member of a group when a new generation begins.
type Attendee struct {
	ID       string
	Metadata []byte // what it says of itself
}

// MemberOptions make a Member. The functions are called one at a time, from Run.
type MemberOptions struct {
	Group, Name string
	// Metadata is what this member says of itself to the one who shares out.
	Metadata func() []byte
	// Share is asked of one member in each generation: what each of all shall be told, by id.
	Share func([]Attendee) map[string][]byte
	// Assigned takes what this member has been told; it does not block.
	Assigned func(generation int32, told []byte)
	// Lost says that the group has gone on without this member: others may have what it had. Replaced: somebody else has its name. It does not block.
	Lost   func(replaced bool)
	Logger *slog.Logger // nil: silent
}

// Member is a membership in a group that shares something out over Kafka's group protocol, as Kafka Connect's workers do
// (KIP-415). It is static (KIP-345): one that ends, in whatever way, and comes back under its name within its session
// finds its share as it was, and nobody else is disturbed.
type Member struct {
	o          MemberOptions
	cl         *kgo.Client
	id         string
	generation int32
	again      chan struct{} // capacity 1: there is a reason to share out anew
}

// Join makes a member. It joins while Run runs.
func (l *Log) Join(o MemberOptions) (*Member, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	lo := l.o
	lo.ClientID = o.Name
	cl, err := lo.client()
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", o.Group, err)
	}
	return &Member{o: o, cl: cl, again: make(chan struct{}, 1)}, nil
}

// Rejoin has the group share out anew, because something has changed: a member that has nothing new to say of itself changes nothing.
func (m *Member) Rejoin() {
	select {
	case m.again <- struct{}{}:
	default:
	}
}

// Run is a member until ctx ends. It does not leave then: who comes back soon has its share as it was. Remove is for who does not.
func (m *Member) Run(ctx context.Context) {
	defer m.cl.Close()
	for ctx.Err() == nil {
		wait := memberPatience
		switch err := m.attend(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil, errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration):
			continue
		case errors.Is(err, kerr.UnknownMemberID):
			m.id = ""
			m.o.Lost(false)
			continue
		case errors.Is(err, kerr.FencedInstanceID):
			m.id, wait = "", memberSession
			m.o.Lost(true)
			m.o.Logger.Error("another worker has joined the group under this one's name", "group", m.o.Group, "name", m.o.Name, "again in", wait)
		default:
			m.o.Logger.Warn("cannot join the group of workers", "group", m.o.Group, "error", err, "again in", wait)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// attend joins and takes part in one generation. Nil: there is a reason for the next one.
func (m *Member) attend(ctx context.Context) error {
	select {
	case <-m.again: // what it was about is said now
	default:
	}
	plan, err := m.join(ctx)
	if err != nil {
		return err
	}
	told, err := m.sync(ctx, plan)
	if err != nil {
		return err
	}
	m.o.Assigned(m.generation, told)
	beat := time.NewTicker(memberBeat)
	defer beat.Stop()
	for awake := time.Now(); ; awake = time.Now() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.again:
			return nil
		case <-beat.C:
		}
		if time.Since(awake) > memberSession { // the process has stood still: before its tasks find out, it asks who has them
			m.o.Lost(false)
			return nil
		}
		if err := m.beat(ctx); err != nil {
			return err
		}
	}
}

func (m *Member) join(ctx context.Context) ([]kmsg.SyncGroupRequestGroupAssignment, error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = m.o.Group, m.id, memberType
	req.InstanceID = kmsg.StringPtr(instance(m.o.Name))
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(memberSession.Milliseconds()), int32(memberRejoin.Milliseconds())
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = memberProtocol, m.o.Metadata()
	req.Protocols = append(req.Protocols, p)
	resp, err := req.RequestWith(ctx, m.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", m.o.Group, err)
	}
	m.id, m.generation = resp.MemberID, resp.Generation
	if resp.LeaderID != m.id || resp.SkipAssignment {
		return nil, nil
	}
	all := make([]Attendee, len(resp.Members))
	for i, a := range resp.Members {
		all[i] = Attendee{a.MemberID, a.ProtocolMetadata}
	}
	var plan []kmsg.SyncGroupRequestGroupAssignment
	for id, told := range m.o.Share(all) {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = id, told
		plan = append(plan, a)
	}
	return plan, nil
}

func (m *Member) sync(ctx context.Context, plan []kmsg.SyncGroupRequestGroupAssignment) ([]byte, error) {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation, req.GroupAssignment = m.o.Group, m.id, m.generation, plan
	req.InstanceID = kmsg.StringPtr(instance(m.o.Name))
	req.ProtocolType, req.Protocol = kmsg.StringPtr(memberType), kmsg.StringPtr(memberProtocol)
	resp, err := req.RequestWith(ctx, m.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("sync group %s: %w", m.o.Group, err)
	}
	return resp.MemberAssignment, nil
}

// beat is one heartbeat. That the coordinator cannot be reached is no error: its node may have died, and the next one
// gives every member a new session.
func (m *Member) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, memberSession/2)
	defer cancel()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = m.o.Group, m.id, m.generation
	req.InstanceID = kmsg.StringPtr(instance(m.o.Name))
	resp, err := req.RequestWith(ctx, m.cl)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID):
		return err
	}
	return nil
}

var notInstance = regexp.MustCompile(`[^a-zA-Z0-9._-]`)

// instance makes a group.instance.id of a name: Kafka wants the letters of a topic's name.
func instance(name string) string { return notInstance.ReplaceAllString(name, "-") }

// Remove takes a member that has gone out of a group before its session has ended. One that is there all the same joins again.
func (l *Log) Remove(ctx context.Context, group, name string) error {
	_, err := l.adm.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(instance(name)).Reason("it does not answer"))
	if err != nil {
		return fmt.Errorf("remove %s from group %s: %w", name, group, err)
	}
	return nil
}

// Told is a member of a group and what it was told last.
type Told struct {
	Name string
	Told []byte // nil: nothing, or the group is sharing out anew
}

// Members are a group's members.
func (l *Log) Members(ctx context.Context, group string) ([]Told, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(ctx, l.cl)
	if err != nil {
		return nil, fmt.Errorf("describe group %s: %w", group, err)
	}
	var out []Told
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return nil, fmt.Errorf("describe group %s: %w", group, err)
		}
		for _, m := range g.Members {
			told := m.MemberAssignment
			if g.State != "Stable" || g.ProtocolType != memberType {
				told = nil
			}
			out = append(out, Told{m.ClientID, told})
		}
	}
	return out, nil
}
