// Package auth says who a request comes from and, one day, what it may do.
package auth

// Principal is who sent a request, as in Kafka: User:alice.
type Principal struct{ Type, Name string }

// Anonymous is everybody on a listener without authentication.
var Anonymous = Principal{Type: "User", Name: "ANONYMOUS"}

func (p Principal) String() string { return p.Type + ":" + p.Name }
