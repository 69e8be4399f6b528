// Package cdc holds what the databases' sources share: the source block that
// every change event carries, the semantic schemas of Debezium's types, and how
// a change becomes the records of a topic.
package cdc
