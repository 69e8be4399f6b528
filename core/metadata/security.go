package metadata

import (
	"cmp"
	"maps"
	"slices"
)

// ACL is an access control list's entry. Its fields are those of auth.ACL, and the protocol's numbers.
type ACL struct {
	Resource   int8
	Pattern    int8
	Name       string
	Principal  string
	Host       string
	Operation  int8
	Permission int8
}

func compareACLs(a, b ACL) int {
	return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern),
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Permission, b.Permission))
}

// ScramUser is whose credential it is, and for which mechanism by KIP-554's number.
type ScramUser struct {
	Name      string
	Mechanism int8
}

// ScramCredential is what is kept of a password (RFC 5802). Its fields are those of auth.Credential. It prints as stars.
type ScramCredential struct {
	Salt, StoredKey, ServerKey []byte
	Iterations                 int
}

func (ScramCredential) String() string   { return "***" }
func (ScramCredential) GoString() string { return "***" }

// AlterACLs removes and adds. What is there already is not added twice; what is not there is not missed: two who ask for the same
// at one time both get what they asked for.
type AlterACLs struct{ Add, Remove []ACL }

// AlterScram sets and removes credentials.
type AlterScram struct {
	Set    map[ScramUser]ScramCredential
	Remove []ScramUser
}

func (*AlterACLs) kind() byte  { return kindAlterACLs }
func (*AlterScram) kind() byte { return kindAlterScram }

func (c *AlterACLs) encode(e *encoder) { encodeList(e, c.Add, e.acl); encodeList(e, c.Remove, e.acl) }
func (c *AlterACLs) decode(d *decoder) { c.Add, c.Remove = decodeList(d, d.acl), decodeList(d, d.acl) }

func (c *AlterScram) encode(e *encoder) { e.scram(c.Set); encodeList(e, c.Remove, e.scramUser) }
func (c *AlterScram) decode(d *decoder) { c.Set, c.Remove = d.scram(), decodeList(d, d.scramUser) }

func (i *Image) alterACLs(c *AlterACLs) {
	gone := make(map[ACL]bool, len(c.Remove))
	for _, a := range c.Remove {
		gone[a] = true
	}
	acls := slices.DeleteFunc(slices.Clone(i.ACLs), func(a ACL) bool { return gone[a] })
	acls = append(acls, c.Add...)
	slices.SortFunc(acls, compareACLs)
	acls = slices.Compact(acls)
	if !slices.Equal(acls, i.ACLs) {
		i.ACLs, i.ACLIndex = acls, i.Index
	}
}

func (i *Image) alterScram(c *AlterScram) {
	i.Scram = maps.Clone(i.Scram)
	for _, u := range c.Remove {
		delete(i.Scram, u)
	}
	maps.Copy(i.Scram, c.Set)
}

func (e *encoder) acl(a ACL) {
	for _, v := range []int8{a.Resource, a.Pattern, a.Operation, a.Permission} {
		e.byte(byte(v))
	}
	e.string(a.Name)
	e.string(a.Principal)
	e.string(a.Host)
}

func (d *decoder) acl() ACL {
	a := ACL{Resource: int8(d.byte()), Pattern: int8(d.byte()), Operation: int8(d.byte()), Permission: int8(d.byte())}
	a.Name, a.Principal, a.Host = d.string(), d.string(), d.string()
	return a
}

func (e *encoder) scramUser(u ScramUser) { e.string(u.Name); e.byte(byte(u.Mechanism)) }
func (d *decoder) scramUser() ScramUser {
	return ScramUser{Name: d.string(), Mechanism: int8(d.byte())}
}

// scram writes credentials in the order of their users: the same map gives the same bytes.
func (e *encoder) scram(m map[ScramUser]ScramCredential) {
	users := slices.SortedFunc(maps.Keys(m), func(a, b ScramUser) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Mechanism, b.Mechanism))
	})
	encodeList(e, users, func(u ScramUser) {
		c := m[u]
		e.scramUser(u)
		e.string(string(c.Salt))
		e.string(string(c.StoredKey))
		e.string(string(c.ServerKey))
		e.int(int64(c.Iterations))
	})
}

func (d *decoder) scram() map[ScramUser]ScramCredential {
	m := map[ScramUser]ScramCredential{}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		u := d.scramUser()
		m[u] = ScramCredential{Salt: []byte(d.string()), StoredKey: []byte(d.string()), ServerKey: []byte(d.string()), Iterations: int(d.int32())}
	}
	return m
}
