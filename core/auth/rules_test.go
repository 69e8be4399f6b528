package auth

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func acl(resource, pattern int8, name, who, host string, operation, permission int8) ACL {
	return ACL{resource, pattern, name, who, host, operation, permission}
}

var (
	alice = User("alice")
	bob   = User("bob")
)

// The rules as Kafka's documentation has them (Authorization and ACLs; KIP-290 prefixes; StandardAuthorizer).
func TestRules(t *testing.T) {
	const host = "10.0.0.1"
	type ask struct {
		who       Principal
		operation int8
		resource  int8
		name      string
	}
	for name, c := range map[string]struct {
		policy Policy
		acls   []ACL
		yes    []ask
		no     []ask
	}{
		"nobody may what nothing allows": {no: []ask{{alice, Read, Topic, "t"}}},
		"unless no ACL names it and the policy says so": {
			policy: Policy{OpenWithout: true}, acls: []ACL{acl(Topic, Literal, "t", "User:bob", "*", Read, Allow)},
			yes: []ask{{bob, Read, Topic, "t"}, {alice, Read, Topic, "u"}}, no: []ask{{alice, Read, Topic, "t"}, {bob, Write, Topic, "t"}},
		},
		"super users": {
			policy: Policy{Supers: []Principal{alice}}, acls: []ACL{acl(Topic, Literal, "t", "User:*", "*", All, Deny)},
			yes: []ask{{alice, Read, Topic, "t"}, {Node, Read, Topic, "t"}}, no: []ask{{bob, Read, Topic, "t"}},
		},
		"deny goes before allow": {
			acls: []ACL{acl(Topic, Literal, "t", "User:*", "*", Read, Allow), acl(Topic, Prefixed, "", "User:x", "*", Read, Allow), acl(Topic, Literal, "*", "User:bob", "*", Read, Deny)},
			yes:  []ask{{alice, Read, Topic, "t"}}, no: []ask{{bob, Read, Topic, "t"}},
		},
		"hosts": {
			acls: []ACL{acl(Topic, Literal, "t", "User:alice", host, Read, Allow), acl(Topic, Literal, "t", "User:bob", "10.0.0.2", Read, Allow)},
			yes:  []ask{{alice, Read, Topic, "t"}}, no: []ask{{bob, Read, Topic, "t"}},
		},
		"a literal name is whole": {
			acls: []ACL{acl(Topic, Literal, "foo", "User:alice", "*", Read, Allow)},
			yes:  []ask{{alice, Read, Topic, "foo"}}, no: []ask{{alice, Read, Topic, "foobar"}, {alice, Read, Topic, "fo"}, {alice, Read, Group, "foo"}},
		},
		"a prefix": {
			acls: []ACL{acl(Topic, Prefixed, "foo", "User:alice", "*", Read, Allow), acl(Topic, Prefixed, "foobar", "User:alice", "*", Read, Deny)},
			yes:  []ask{{alice, Read, Topic, "foo"}, {alice, Read, Topic, "foob"}}, no: []ask{{alice, Read, Topic, "foobarre"}, {alice, Read, Topic, "fo"}},
		},
		"the name * is any": {
			acls: []ACL{acl(Group, Literal, "*", "User:alice", "*", Read, Allow)},
			yes:  []ask{{alice, Read, Group, "g"}}, no: []ask{{alice, Read, Topic, "g"}, {bob, Read, Group, "g"}},
		},
		"a prefix * is only that": {
			acls: []ACL{acl(Group, Prefixed, "*", "User:alice", "*", Read, Allow)},
			yes:  []ask{{alice, Read, Group, "*g"}}, no: []ask{{alice, Read, Group, "g"}},
		},
		"read, write, delete and alter imply describe": {
			acls: []ACL{acl(Topic, Literal, "r", "User:alice", "*", Read, Allow), acl(Topic, Literal, "w", "User:alice", "*", Write, Allow),
				acl(Topic, Literal, "d", "User:alice", "*", Delete, Allow), acl(Topic, Literal, "a", "User:alice", "*", Alter, Allow),
				acl(Topic, Literal, "c", "User:alice", "*", Create, Allow), acl(Topic, Literal, "ac", "User:alice", "*", AlterConfigs, Allow)},
			yes: []ask{{alice, Describe, Topic, "r"}, {alice, Describe, Topic, "w"}, {alice, Describe, Topic, "d"}, {alice, Describe, Topic, "a"}, {alice, DescribeConfigs, Topic, "ac"}},
			no:  []ask{{alice, Describe, Topic, "c"}, {alice, Describe, Topic, "ac"}, {alice, DescribeConfigs, Topic, "a"}},
		},
		"to deny read implies nothing": {
			acls: []ACL{acl(Topic, Literal, "t", "User:alice", "*", Read, Deny), acl(Topic, Literal, "t", "User:alice", "*", Describe, Allow)},
			yes:  []ask{{alice, Describe, Topic, "t"}}, no: []ask{{alice, Read, Topic, "t"}},
		},
		"all operations": {
			acls: []ACL{acl(Cluster, Literal, ClusterName, "User:alice", "*", All, Allow)},
			yes:  []ask{{alice, ClusterAction, Cluster, ClusterName}, {alice, Alter, Cluster, ClusterName}}, no: []ask{{alice, Read, Topic, "t"}},
		},
		"User:* is everybody, * of another type nobody": {
			acls: []ACL{acl(Topic, Literal, "t", "User:*", "*", Read, Allow), acl(Topic, Literal, "u", "Group:*", "*", Read, Allow)},
			yes:  []ask{{Anonymous, Read, Topic, "t"}, {bob, Read, Topic, "t"}}, no: []ask{{bob, Read, Topic, "u"}},
		},
	} {
		r := NewRules(c.policy, c.acls)
		for want, asks := range map[bool][]ask{true: c.yes, false: c.no} {
			for _, a := range asks {
				if got := r.Allows(a.who, host, a.operation, a.resource, a.name); got != want {
					t.Errorf("%s: %v: %v", name, a, got)
				}
			}
		}
	}
}

// An address may be written in several ways; Kafka writes the long one.
func TestHostsOfIPv6(t *testing.T) {
	for written, asks := range map[string]string{"2001:db8:0:0:0:0:0:1": "2001:db8::1", "0:0:0:0:0:0:0:1": "::1", "2001:DB8::1": "2001:db8::1",
		"fe80:0:0:0:0:0:0:1%eth0": "fe80::1", "::ffff:10.0.0.1": "10.0.0.1", "10.0.0.1": "10.0.0.1", "host.example": "host.example"} {
		r := NewRules(Policy{}, []ACL{acl(Topic, Literal, "t", "User:*", "*", Read, Allow), acl(Topic, Literal, "t", "User:alice", written, Read, Deny)})
		if r.Allows(User("alice"), asks, Read, Topic, "t") || !r.Allows(User("alice"), "2001:db8::2", Read, Topic, "t") {
			t.Errorf("%s is not %s, or is 2001:db8::2, too", written, asks)
		}
	}
}

// Kafka's Authorizer.authorizeByResourceType.
func TestAllowsSome(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		acls   []ACL
		want   bool
	}{
		"nothing":                      {},
		"open":                         {policy: Policy{OpenWithout: true}, want: true},
		"one topic":                    {acls: []ACL{acl(Topic, Literal, "t", "User:alice", "*", Write, Allow)}, want: true},
		"all operations":               {acls: []ACL{acl(Topic, Prefixed, "t", "User:alice", "*", All, Allow)}, want: true},
		"another operation":            {acls: []ACL{acl(Topic, Literal, "t", "User:alice", "*", Read, Allow)}},
		"another user":                 {acls: []ACL{acl(Topic, Literal, "t", "User:bob", "*", Write, Allow)}},
		"denied by name":               {acls: []ACL{acl(Topic, Literal, "t", "User:alice", "*", Write, Allow), acl(Topic, Literal, "t", "User:*", "*", Write, Deny)}},
		"denied by prefix":             {acls: []ACL{acl(Topic, Literal, "tt", "User:alice", "*", Write, Allow), acl(Topic, Prefixed, "t", "User:alice", "*", Write, Deny)}},
		"a prefix denied by prefix":    {acls: []ACL{acl(Topic, Prefixed, "tt", "User:alice", "*", Write, Allow), acl(Topic, Prefixed, "t", "User:alice", "*", Write, Deny)}},
		"a prefix wider than denied":   {acls: []ACL{acl(Topic, Prefixed, "t", "User:alice", "*", Write, Allow), acl(Topic, Prefixed, "tt", "User:alice", "*", Write, Deny)}, want: true},
		"a prefix, one topic denied":   {acls: []ACL{acl(Topic, Prefixed, "t", "User:alice", "*", Write, Allow), acl(Topic, Literal, "t", "User:alice", "*", Write, Deny)}, want: true},
		"everything denied":            {policy: Policy{OpenWithout: true}, acls: []ACL{acl(Topic, Literal, "t", "User:alice", "*", Write, Allow), acl(Topic, Literal, "*", "User:alice", "*", Write, Deny)}},
		"everything allowed":           {acls: []ACL{acl(Topic, Literal, "*", "User:alice", "*", Write, Allow)}, want: true},
		"everything allowed, one not":  {acls: []ACL{acl(Topic, Literal, "*", "User:alice", "*", Write, Allow), acl(Topic, Literal, "t", "User:alice", "*", Write, Deny)}, want: true},
		"a super user in spite of all": {policy: Policy{Supers: []Principal{alice}}, acls: []ACL{acl(Topic, Literal, "*", "User:*", "*", All, Deny)}, want: true},
	} {
		if got := NewRules(c.policy, c.acls).AllowsSome(alice, "h", Write, Topic); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// naive asks every ACL in turn, in the words of Kafka's documentation.
func naive(p Policy, acls []ACL, who Principal, host string, operation int8, resource int8, name string) bool {
	if slices.Contains(p.Supers, who) {
		return true
	}
	named, allowed := false, false
	for _, a := range acls {
		if a.Resource != resource {
			continue
		}
		if !(a.Pattern == Literal && (a.Name == name || a.Name == "*") || a.Pattern == Prefixed && strings.HasPrefix(name, a.Name)) {
			continue
		}
		named = true
		if a.Principal != who.String() && a.Principal != "User:*" || a.Host != host && a.Host != "*" {
			continue
		}
		operations := []int8{a.Operation}
		if a.Operation == All {
			for op := int8(Read); op <= TwoPhaseCommit; op++ {
				operations = append(operations, op)
			}
		}
		if a.Permission == Allow && slices.Contains([]int8{Read, Write, Delete, Alter}, a.Operation) {
			operations = append(operations, Describe)
		}
		if a.Permission == Allow && a.Operation == AlterConfigs {
			operations = append(operations, DescribeConfigs)
		}
		if !slices.Contains(operations, operation) {
			continue
		}
		if a.Permission == Deny {
			return false
		}
		allowed = true
	}
	return allowed || !named && p.OpenWithout
}

func TestRulesAgainstANaiveEvaluator(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	names := []string{"a", "ab", "abc", "b", "ba", "*", "abcd"}
	yes := 0
	for range 3000 {
		p := Policy{OpenWithout: r.IntN(2) == 0}
		if r.IntN(4) == 0 {
			p.Supers = []Principal{bob}
		}
		var acls []ACL
		for range r.IntN(8) {
			acls = append(acls, acl(int8(Topic+r.IntN(2)), int8(Literal+r.IntN(2)), pick(names...), pick("User:alice", "User:bob", "User:*", "Role:alice"),
				pick("*", "h1", "h2"), int8(All+r.IntN(14)), int8(Deny+min(r.IntN(4), 1))))
		}
		rules := NewRules(p, acls)
		for range 20 {
			who, host, op, kind, name := User(pick("alice", "bob", "carol")), pick("h1", "h2", "h3"), int8(Read+r.IntN(13)), int8(Topic+r.IntN(2)), pick(names...)
			got, want := rules.Allows(who, host, op, kind, name), naive(p, acls, who, host, op, kind, name)
			if got != want {
				t.Fatalf("seed %d: %+v %+v: %v %s %d %d %q: %v, want %v", seed, p, acls, who, host, op, kind, name, got, want)
			}
			if got {
				yes++
			}
		}
	}
	if yes < 1000 {
		t.Errorf("only %d of 60000 were allowed: the model says little", yes)
	}
}

func TestFilter(t *testing.T) {
	name := func(s string) *string { return &s }
	all := Filter{Resource: 1, Pattern: AnyPattern, Operation: AnyOperation, Permission: AnyPermission}
	with := func(change func(*Filter)) Filter { f := all; change(&f); return f }
	literal, prefix, star := acl(Topic, Literal, "foobar", "User:a", "*", Read, Allow), acl(Topic, Prefixed, "foo", "User:a", "h", Read, Deny), acl(Topic, Literal, "*", "User:b", "*", Write, Allow)
	for what, c := range map[string]struct {
		f    Filter
		want []bool // literal, prefix, star
	}{
		"any":              {all, []bool{true, true, true}},
		"another resource": {with(func(f *Filter) { f.Resource = Group }), []bool{false, false, false}},
		"any of a name":    {with(func(f *Filter) { f.Name = name("foobar") }), []bool{true, false, false}},
		"match a name":     {with(func(f *Filter) { f.Name, f.Pattern = name("foobar"), Match }), []bool{true, true, true}},
		"match any":        {with(func(f *Filter) { f.Pattern = Match }), []bool{true, true, true}},
		"literal":          {with(func(f *Filter) { f.Pattern = Literal }), []bool{true, false, true}},
		"literal *":        {with(func(f *Filter) { f.Name, f.Pattern = name("*"), Literal }), []bool{false, false, true}},
		"prefixed":         {with(func(f *Filter) { f.Name, f.Pattern = name("foo"), Prefixed }), []bool{false, true, false}},
		"principal":        {with(func(f *Filter) { f.Principal = name("User:a") }), []bool{true, true, false}},
		"host":             {with(func(f *Filter) { f.Host = name("h") }), []bool{false, true, false}},
		"operation":        {with(func(f *Filter) { f.Operation = Write }), []bool{false, false, true}},
		"permission":       {with(func(f *Filter) { f.Permission = Deny }), []bool{false, true, false}},
	} {
		for i, a := range []ACL{literal, prefix, star} {
			if got := c.f.Matches(a); got != c.want[i] {
				t.Errorf("%s: %+v: %v", what, a, got)
			}
		}
	}
}

func TestOperations(t *testing.T) {
	r := NewRules(Policy{Supers: []Principal{bob}}, []ACL{acl(Topic, Literal, "t", "User:alice", "*", Read, Allow)})
	if got := r.Operations(alice, "h", Topic, "t"); got != 1<<Read|1<<Describe {
		t.Errorf("%b", got)
	}
	if got := r.Operations(bob, "h", Cluster, ClusterName); got != 1<<5|1<<7|1<<8|1<<9|1<<10|1<<11|1<<12 {
		t.Errorf("%b", got)
	}
}

// A produce or fetch asks for every partition: nothing may be allocated.
func TestAllowsDoesNotAllocate(t *testing.T) {
	r := NewRules(Policy{}, []ACL{acl(Topic, Literal, "orders", "User:alice", "*", Write, Allow), acl(Topic, Prefixed, "ord", "User:*", "*", Describe, Allow)})
	if n := testing.AllocsPerRun(100, func() { r.Allows(alice, "10.0.0.1", Write, Topic, "orders") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllows(b *testing.B) {
	var acls []ACL
	for i := range 1000 {
		name := "topic-" + strings.Repeat("x", i%7) + string(rune('a'+i%26))
		acls = append(acls, acl(Topic, int8(Literal+i%2), name, "User:alice", "*", Write, Allow), acl(Topic, Literal, "*", "User:u"+name, "*", Read, Allow))
	}
	for name, list := range map[string][]ACL{"1": {acl(Topic, Literal, "topic-a", "User:alice", "*", Write, Allow)}, "2000": acls} {
		r := NewRules(Policy{}, list)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Allows(alice, "10.0.0.1", Write, Topic, "topic-a")
			}
		})
	}
}
