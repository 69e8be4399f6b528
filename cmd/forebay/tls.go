package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/internal/tlsdir"
)

// defaultCertDays is how long a certificate lasts: long enough to be planned for, short enough not to be forgotten.
const defaultCertDays = 730

func tlsCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "tls", Short: "Make the certificates and keys by which nodes and clients know each other"}
	c.AddCommand(tlsInit(s), tlsRevoke(s))
	return c
}

func tlsRevoke(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke",
		Short: "Take certificates of nodes and clients back",
		Long: "Adds certificates to the authority's list in --dir, and writes the list, ca.crl, into every folder there. Nodes take it over while they run, once it is copied to their\n" +
			"--tls-dir: they refuse who is in it and close the connections that he has, in both directions.\n\n" +
			"A node that was taken over knows the keys of gossip as well: replace them (docs/security.md).",
		Example: "  forebay tls revoke --dir secrets --node n3\n  forebay tls revoke --dir secrets --certificate old/node.pem",
		Args:    cobra.NoArgs,
	}
	f := c.Flags()
	dir := f.String("dir", "", "the authority's folder")
	nodes := f.StringArray("node", nil, "the `NAME` of a node whose folder lies there; repeatable")
	clients := f.StringArray("client", nil, "the `NAME` of a client whose folder lies there; repeatable")
	files := f.StringArray("certificate", nil, "a `FILE` with a certificate in PEM; repeatable")
	addJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *dir == "" {
			return badInput("--dir", "is not given", "name the folder that the authority lives in")
		}
		list := *files
		for _, n := range *nodes {
			list = append(list, tlsdir.NodePath(filepath.Join(*dir, n)))
		}
		for _, n := range *clients {
			list = append(list, tlsdir.ClientPath(filepath.Join(*dir, n)))
		}
		if len(list) == 0 {
			return badInput("--node", "nothing is named", "for example --node n3")
		}
		folders, err := tlsdir.Revoke(*dir, list)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, map[string]any{"folders": folders})
		}
		fmt.Fprintf(s.out, "revoked %d certificates: copy %s to the --tls-dir of every node that stays\n", len(list), tlsdir.CRLPath(*dir))
		return nil
	}
	return c
}

// tlsMade is what `tls init --json` prints.
type tlsMade struct {
	Authority bool     `json:"authority_made"`
	Folders   []string `json:"folders"`
}

func tlsInit(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "init",
		Short: "Make an authority, and a folder with a certificate for each node and client",
		Long: "Makes in --dir one authority, the key of gossip, and a folder for each node: what `forebay server --tls-dir` wants. Run it again\n" +
			"to add nodes and clients later. Nothing is overwritten; --renew makes the certificates of those that are named anew.\n\n" +
			"--node and --host come in pairs: the hosts are the names and addresses by which clients reach that node.",
		Example: "  forebay tls init --dir secrets --node n1 --host hub1.example.org,10.0.0.1 --node n2 --host hub2.example.org,10.0.0.2\n" +
			"  forebay tls init --dir secrets --client alice",
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	dir := f.String("dir", "", "the authority's folder; its key stays there")
	nodes := f.StringArray("node", nil, "a node's `NAME`; repeatable")
	hosts := f.StringArray("host", nil, "`HOST,…` of the node; once for each --node")
	clients := f.StringArray("client", nil, "a client's `NAME`, its principal's; repeatable")
	days := f.Int("days", defaultCertDays, "how long the certificates last")
	renew := f.Bool("renew", false, "make the certificates anew; the rest of the folders stays as it is")
	addJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *dir == "" {
			return badInput("--dir", "is not given", "name the folder that the authority lives in")
		}
		if len(*nodes) != len(*hosts) {
			return badInput("--host", fmt.Sprintf("%d nodes, and hosts for %d", len(*nodes), len(*hosts)), "one --host for each --node; several hosts of a node with commas")
		}
		if len(*nodes)+len(*clients) == 0 {
			return badInput("--node", "nothing is named", "for example --node n1 --host 10.0.0.1")
		}
		p := tlsdir.Plan{Dir: *dir, Clients: *clients, Days: *days, Renew: *renew}
		for i, n := range *nodes {
			p.Nodes = append(p.Nodes, tlsdir.Node{Name: n, Hosts: strings.Split((*hosts)[i], ",")})
		}
		made, err := tlsdir.Init(p)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, tlsMade{made.Authority, made.Folders})
		}
		if made.Authority {
			fmt.Fprintf(s.out, "made an authority: who has %s can make nodes; keep it off them\n", filepath.Join(*dir, "ca.key"))
		}
		for i, folder := range made.Folders {
			if i < len(p.Nodes) {
				fmt.Fprintf(s.out, "%s: copy the folder to node %s, and start it with --tls-dir FOLDER\n", folder, p.Nodes[i].Name)
			} else {
				fmt.Fprintf(s.out, "%s: copy the folder to %s, and use client.properties with --command-config\n", folder, p.Clients[i-len(p.Nodes)])
			}
		}
		return nil
	}
	return c
}
