// Package auth says who a request comes from and what it may do: SASL's PLAIN,
// SCRAM and OAUTHBEARER on the server's side, and Kafka's ACLs. It has no goroutine, no
// clock and no file; what it is given it believes.
package auth

import "strings"

// Principal is who sent a request, as in Kafka: User:alice.
type Principal struct{ Type, Name string }

// Anonymous is everybody on a listener without authentication.
var Anonymous = Principal{Type: "User", Name: "ANONYMOUS"}

// Node is this process itself, over a connection in memory. No client can be it: theirs are of type User.
var Node = Principal{Type: "Node", Name: "self"}

// User is somebody who has authenticated.
func User(name string) Principal { return Principal{Type: "User", Name: name} }

func (p Principal) String() string { return p.Type + ":" + p.Name }

// ParsePrincipal reads User:alice. False: there is no type or no name.
func ParsePrincipal(s string) (Principal, bool) {
	typ, name, ok := strings.Cut(s, ":")
	return Principal{Type: typ, Name: name}, ok && typ != "" && name != ""
}

// ParsePrincipals reads a list as super.users has it, with ; between: names of certificates have commas.
func ParsePrincipals(s string) ([]Principal, bool) {
	var list []Principal
	for _, one := range strings.Split(s, ";") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		p, ok := ParsePrincipal(one)
		if !ok {
			return nil, false
		}
		list = append(list, p)
	}
	return list, true
}
