package auth

import (
	"net/netip"
	"slices"
)

// Rules are ACLs in a form that is quick to ask: a look-up for the name and one for each length that a prefix has, and nothing
// is allocated. They do not change. The semantics are those of org.apache.kafka.metadata.authorizer.StandardAuthorizer:
// a super user may do anything; then deny goes before allow; then nobody may what nothing allows, unless no ACL at all names
// the resource and OpenWithout says so.
type Rules struct {
	supers map[Principal]bool
	open   bool
	byType [UserResource + 1]named
}

// Policy is what Rules are made of beside ACLs.
type Policy struct {
	Supers []Principal // like super.users
	// OpenWithout allows everything on a resource that no ACL names. Like allow.everyone.if.no.acl.found.
	OpenWithout bool
}

// named are the ACLs of one resource type.
type named struct {
	wild     []rule // of the literal name *
	literal  map[string][]rule
	prefixed map[string][]rule
	lengths  []int // of the prefixes, ascending
}

type rule struct {
	who       Principal
	everybody bool
	host      string
	operation int8
	deny      bool
}

// NewRules compiles ACLs that Check has passed.
func NewRules(p Policy, acls []ACL) *Rules {
	r := &Rules{supers: map[Principal]bool{}, open: p.OpenWithout}
	for _, s := range p.Supers {
		r.supers[s] = true
	}
	for _, a := range acls {
		if a.Check() != nil {
			continue
		}
		one := rule{everybody: a.Principal == everybody, host: hostOf(a.Host), operation: a.Operation, deny: a.Permission == Deny}
		one.who, _ = ParsePrincipal(a.Principal)
		n := &r.byType[a.Resource]
		if n.literal == nil {
			n.literal, n.prefixed = map[string][]rule{}, map[string][]rule{}
		}
		switch {
		case a.Pattern == Prefixed:
			if !slices.Contains(n.lengths, len(a.Name)) {
				n.lengths = append(n.lengths, len(a.Name))
			}
			n.prefixed[a.Name] = append(n.prefixed[a.Name], one)
		case a.Name == wildcard:
			n.wild = append(n.wild, one)
		default:
			n.literal[a.Name] = append(n.literal[a.Name], one)
		}
	}
	for i := range r.byType {
		slices.Sort(r.byType[i].lengths)
	}
	return r
}

// hostOf is an address as Go writes it, and so whoever asks. Kafka's tools write all eight groups of an IPv6 address (InetAddress.getHostAddress).
func hostOf(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().WithZone("").String()
	}
	return host
}

// Super says whether a principal may do anything: the node itself, and super.users.
func (r *Rules) Super(p Principal) bool { return p == Node || r.supers[p] }

// Allows says whether a principal at an address may do an operation to a resource.
func (r *Rules) Allows(p Principal, host string, operation, resource int8, name string) bool {
	if r.Super(p) {
		return true
	}
	n := &r.byType[resource]
	var v verdict
	v.hear(n.literal[name], p, host, operation)
	for _, length := range n.lengths {
		if length > len(name) {
			break
		}
		v.hear(n.prefixed[name[:length]], p, host, operation)
	}
	v.hear(n.wild, p, host, operation)
	switch {
	case v.denied:
		return false
	case v.allowed:
		return true
	}
	return !v.named && r.open
}

// verdict is what was heard so far.
type verdict struct{ named, allowed, denied bool }

func (v *verdict) hear(rules []rule, p Principal, host string, operation int8) {
	v.named = v.named || len(rules) > 0
	for i := range rules {
		if one := &rules[i]; one.about(p, host) && one.speaksOf(operation) {
			v.denied = v.denied || one.deny
			v.allowed = v.allowed || !one.deny
		}
	}
}

func (r *rule) about(p Principal, host string) bool {
	return (r.everybody || r.who == p) && (r.host == wildcard || r.host == host)
}

// speaksOf knows which operations imply Describe and DescribeConfigs; only what is allowed implies anything.
func (r *rule) speaksOf(operation int8) bool {
	switch {
	case r.operation == All || r.operation == operation:
		return true
	case r.deny:
		return false
	case operation == Describe:
		return r.operation == Read || r.operation == Write || r.operation == Delete || r.operation == Alter
	case operation == DescribeConfigs:
		return r.operation == AlterConfigs
	}
	return false
}

// Operations are the bits of what a principal may do to a resource (KIP-430).
func (r *Rules) Operations(p Principal, host string, resource int8, name string) int32 {
	bits := int32(0)
	for _, op := range operationsOf[resource] {
		if r.Allows(p, host, op, resource, name) {
			bits |= 1 << op
		}
	}
	return bits
}

// AllowsSome says whether a principal may do an operation to at least one resource of a type, whether or not one of that name
// exists (Kafka's Authorizer.authorizeByResourceType). No operation implies another here.
func (r *Rules) AllowsSome(p Principal, host string, operation, resource int8) bool {
	if r.Allows(p, host, operation, resource, "hardcode") { // as Kafka does it: for super users, and where no ACL says anything
		return true
	}
	n := &r.byType[resource]
	says := func(rules []rule, deny bool) bool {
		return slices.ContainsFunc(rules, func(one rule) bool {
			return one.deny == deny && one.about(p, host) && (one.operation == operation || one.operation == All)
		})
	}
	switch {
	case says(n.wild, true):
		return false
	case says(n.wild, false):
		return true
	}
	denied := func(name string) bool { // by a prefix of it, or by it as a prefix
		return slices.ContainsFunc(n.lengths, func(length int) bool { return length <= len(name) && says(n.prefixed[name[:length]], true) })
	}
	for name, rules := range n.prefixed {
		if says(rules, false) && !denied(name) {
			return true
		}
	}
	for name, rules := range n.literal {
		if says(rules, false) && !says(rules, true) && !denied(name) {
			return true
		}
	}
	return false
}
