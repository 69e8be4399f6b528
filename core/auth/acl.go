package auth

import (
	"fmt"
	"strings"
)

// ACL says that a principal may, or may not, do something to the resources that a pattern names. The numbers are the protocol's.
type ACL struct {
	Resource   int8   // Topic, Group, …
	Pattern    int8   // Literal or Prefixed
	Name       string // of the resource, or what it begins with; "*": any
	Principal  string // User:alice; User:*: everybody
	Host       string // an address; "*": any
	Operation  int8   // Read, Write, …; All
	Permission int8   // Allow or Deny
}

// Resource types.
const (
	Topic           = 2
	Group           = 3
	Cluster         = 4
	TransactionalID = 5
	DelegationToken = 6
	UserResource    = 7
)

// Pattern types. Any and Match are for filters alone.
const (
	AnyPattern = 1
	Match      = 2
	Literal    = 3
	Prefixed   = 4
)

// Operations.
const (
	AnyOperation    = 1
	All             = 2
	Read            = 3
	Write           = 4
	Create          = 5
	Delete          = 6
	Alter           = 7
	Describe        = 8
	ClusterAction   = 9
	DescribeConfigs = 10
	AlterConfigs    = 11
	IdempotentWrite = 12
	CreateTokens    = 13
	DescribeTokens  = 14
	TwoPhaseCommit  = 15
)

// Permissions.
const (
	AnyPermission = 1
	Deny          = 2
	Allow         = 3
)

const (
	wildcard  = "*"
	everybody = "User:*"
	// ClusterName is the only name of a resource of type Cluster.
	ClusterName = "kafka-cluster"
	anyResource = 1
)

// Operations that a resource type has, in the order of their numbers (Kafka's AclEntry): what a client is told that it may do.
var operationsOf = [...][]int8{
	Topic:           {Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs},
	Group:           {Read, Delete, Describe, DescribeConfigs, AlterConfigs},
	Cluster:         {Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite},
	TransactionalID: {Write, Describe, TwoPhaseCommit},
	DelegationToken: {Describe},
	UserResource:    {CreateTokens, DescribeTokens},
}

// Check says what is wrong with an ACL that is to be made (Kafka's AclControlManager and AclApis).
func (a ACL) Check() error {
	_, whole := ParsePrincipal(a.Principal)
	switch {
	case a.Resource < Topic || a.Resource > UserResource:
		return fmt.Errorf("Invalid resourceType %d", a.Resource) //nolint:staticcheck // Kafka's words
	case a.Pattern != Literal && a.Pattern != Prefixed:
		return fmt.Errorf("Invalid patternType %d", a.Pattern) //nolint:staticcheck // Kafka's words
	case a.Operation < All || a.Operation > TwoPhaseCommit:
		return fmt.Errorf("Invalid operation %d", a.Operation) //nolint:staticcheck // Kafka's words
	case a.Permission != Deny && a.Permission != Allow:
		return fmt.Errorf("Invalid permissionType %d", a.Permission) //nolint:staticcheck // Kafka's words
	case a.Name == "":
		return fmt.Errorf("Invalid empty resource name") //nolint:staticcheck // Kafka's words
	case a.Resource == Cluster && a.Name != ClusterName:
		return fmt.Errorf("The only valid name for the CLUSTER resource is %s", ClusterName) //nolint:staticcheck // Kafka's words
	case !whole:
		return fmt.Errorf("Could not parse principal from `%s` (no colon is present separating the principal type from the principal name)", a.Principal) //nolint:staticcheck // Kafka's words
	case a.Host == "":
		return fmt.Errorf("Invalid empty host") //nolint:staticcheck // in the manner of the others
	}
	return nil
}

// Filter finds ACLs (Kafka's AclBindingFilter). Nil matches every name, principal or host.
type Filter struct {
	Resource, Pattern     int8
	Name                  *string
	Principal, Host       *string
	Operation, Permission int8
}

// Check says what makes a filter meaningless.
func (f Filter) Check() error {
	if f.Resource < anyResource || f.Resource > UserResource || f.Pattern < AnyPattern || f.Pattern > Prefixed ||
		f.Operation < AnyOperation || f.Operation > TwoPhaseCommit || f.Permission < AnyPermission || f.Permission > Allow {
		return fmt.Errorf("Filters contain UNKNOWN elements") //nolint:staticcheck // Kafka's words
	}
	return nil
}

// Matches says whether a filter finds an ACL. The pattern type Match finds what applies to a resource of that name.
func (f Filter) Matches(a ACL) bool {
	return (f.Resource == anyResource || f.Resource == a.Resource) &&
		(f.Principal == nil || *f.Principal == a.Principal) && (f.Host == nil || *f.Host == a.Host) &&
		(f.Operation == AnyOperation || f.Operation == a.Operation) && (f.Permission == AnyPermission || f.Permission == a.Permission) &&
		f.names(a)
}

func (f Filter) names(a ACL) bool {
	switch {
	case f.Pattern != AnyPattern && f.Pattern != Match && f.Pattern != a.Pattern:
		return false
	case f.Name == nil:
		return true
	case f.Pattern != Match:
		return *f.Name == a.Name
	case a.Pattern == Literal:
		return *f.Name == a.Name || a.Name == wildcard
	default:
		return strings.HasPrefix(*f.Name, a.Name)
	}
}
