/* The command table: parsing, help, docs/cli.md and dispatch all come from here. */
#include "cli/run.h"

#include <stddef.h>

#define START   "Start"
#define LOOK    "Look"
#define DECLARE "Declare"
#define CHANGE  "Change"
#define HOSTS   "Hosts"
#define SAFETY  "Safety"
#define ABOUT   "About"
#define ANY     CLI_WORDS_MAX
#define WAIT_FLAGS                                                                    \
    {"wait", 'w', NULL, "wait until every VM concerned is ready, and show its boot"}, \
    {                                                                                 \
        "timeout", 0, "TIME", "give up waiting after this long (5m)"                  \
    }
#define PASSPHRASE_FLAG                                                              \
    {                                                                                \
        "passphrase-file", 0, "FILE", "its first line is the passphrase; else asked" \
    }
#define DAEMON_FLAGS                                                                     \
    {"name", 'n', "NAME", "name of this host (the machine's); first start only"},        \
        {"address", 0, "IPV4", "address for the other hosts (of the default route)"},    \
        {"mesh-port", 0, "N", "between hosts; N+1 is for hosts that join (7440)"},       \
        {"raft-port", 0, "N", "between voters (7442)"},                                  \
        {"api-port", 0, "N", "HTTPS (7443)"},                                            \
        {"label", 'l', "KEY=VALUE", "label of this host, repeatable; first start only"}, \
        {"reserve-memory", 0, "SIZE",                                                    \
         "memory kept for the host itself (256MiB; half of a small machine)"},           \
        {"reserve-disk", 0, "SIZE",                                                      \
         "disk kept free for the log (a twentieth of it, at most 1GiB)"},                \
        {"cpu-overcommit", 0, "N", "vCPUs that may share one CPU (4)"},                  \
        {"backup-every", 0, "TIME", "while it leads: a backup so often (6h); 0s: none"}, \
        {"backup-keep", 0, "N", "so many of them (28)"},                                 \
        {"backup-folder", 0, "DIR", "put them there (backups in --state)"},              \
        {"backup-passphrase-file", 0, "FILE", "encrypt them: its first line"},           \
        {"disk-overcommit", 0, "N",                                                      \
         "times the disk may be promised to VMs, whose disks are thin (1)"},             \
        {"vm-uids", 0, "N", "VMs run as users from N on, one each; 0: as root"},         \
        {"image-cache", 0, "SIZE",                                                       \
         "limit of this host's image store, and of one image file (20GiB)"},             \
        {"level-max", 0, "N", "hold the cluster's level back at this one (all known)"},  \
        {"level-wait", 0, "TIME",                                                        \
         "while it leads: all hosts must know a level so long (1m)"},                    \
        {"foreground", 0, NULL, "do not detach: run berthd here until it ends"},         \
    {                                                                                    \
        "timeout", 0, "TIME",                                                            \
            "give up waiting after this long (60s); of up, berthd goes on"               \
    }

const struct cli_command cli_commands[] = {
    {START,
     "up",
     NULL,
     "start berthd on this host; the first one founds the cluster",
     "A host that is a member already is just started again. One that was to join, and "
     "whose join was cut off, founds none: join it again. berthd runs detached and "
     "logs to DIR/berthd.log. One that runs already keeps the settings that it was "
     "started "
     "with: those given now that it does not go by are named. Name, address, ports and "
     "labels are remembered; another name or label is refused before a member is "
     "started. "
     "The other settings are given at every start: those that the last one had, and this "
     "one has not, are told.",
     "berth up\n"
     "berth up --name r1u04 --address 10.0.0.4 --label rack=r1\n"
     "berth up --state /srv/berth --foreground\n"
     "berth up --restore /mnt/safe/rack.backup",
     0,
     0,
     run_up,
     DOCUMENTS_ALL,
     {{"restore", 0, "FILE", "found a new cluster with the state of a backup"},
      PASSPHRASE_FLAG,
      DAEMON_FLAGS}},
    {START,
     "join",
     "TOKEN",
     "start berthd on this host and join a cluster",
     "A token is made by `berth token join` on a member, works once and for 15 minutes. "
     "With - it is read from stdin. A host that is refused (exit code 6), or that nobody "
     "has let in until --timeout (7), is left as it was: berthd is ended, and what it "
     "made is removed; what others have put into the folder stays. With --foreground "
     "berthd's own exit code is the last word (3: refused), and what it made stays: "
     "join again, or remove it.\n\n"
     "On a host that is a member already it does what berth up does, and, while that "
     "host hears of no leader because all whom it knew to vote are gone, has it ask the "
     "token's host who votes now. Its VMs and disks stay, no token is used up, and "
     "berthd runs on whatever the exit code. Into another cluster it comes by berth down "
     "--forget first.",
     "berth join berth-join-AQpjAAsd...\n"
     "berth join - --name r1u05 < token.txt",
     1,
     1,
     run_join,
     DOCUMENTS_ALL,
     {DAEMON_FLAGS}},
    {START,
     "down",
     NULL,
     "stop berthd on this host; its VMs go on for a few seconds",
     "VMs outlive a restart of their berthd. When it stays away, berth-fence freezes and "
     "then ends those that may be restarted elsewhere before the lease is over; VMs with "
     "hostFailure: wait run on. Drain the host first to move them. --vms ends those here "
     "without asking their guests, which is a loss of power to them; what they have "
     "written is written out first: for some seconds, as long as their lease holds, or "
     "with hostFailure: wait for half a minute at most. Disks of VMs that are stopped, "
     "or wait for their host, stay; a VM that may be restarted elsewhere is, there or "
     "here, with new disks, as after the loss of its host (berth stop VM keeps them). "
     "--forget deletes all: it says of which VMs, with or without a leader, and which "
     "of them have their disks nowhere else, and asks. Where no host is, this ends with "
     "exit code 3 and makes nothing.",
     "berth down\n"
     "berth drain r1u04 --wait && berth down --vms\n"
     "berth down --forget && berth join berth-join-AQpjAAsd...",
     0,
     0,
     run_down,
     DOCUMENTS_NONE,
     {{"vms", 0, NULL, "end this host's VMs and networks as well"},
      {"forget", 0, NULL, "that, delete their disks and leave the cluster"},
      {"timeout", 0, "TIME", "give up waiting after this long (30s)"}}},
    {START,
     "login",
     "SERVER",
     "remember a server, its key and a token for later commands",
     "The token comes from --token, BERTH_TOKEN or a line on stdin. The server's key is "
     "pinned: `berth up` prints its pin; without --pin or BERTH_PIN the key is shown "
     "and, "
     "on a terminal, asked about. Each host has a key of its own. A script needs no "
     "login: "
     "BERTH_SERVER, BERTH_TOKEN and BERTH_PIN, which takes the keys of all hosts, joined "
     "by semicolons, say the same.",
     "berth login r1u04 --pin sha256//hsyW... < token.txt\n"
     "BERTH_TOKEN=berth-... berth login https://10.0.0.4:7443 --trust",
     1,
     1,
     run_login,
     DOCUMENTS_NONE,
     {{"trust", 0, NULL, "pin whatever key the server has now, unasked"}}},
    {START,
     "token create",
     "NAME",
     "make an access token; it is shown once",
     NULL,
     "berth token create ci --role operator --tenant shop --ttl 90d\n"
     "berth token create ana --role admin",
     1,
     1,
     run_token_create,
     DOCUMENTS_UNNAMED,
     {{"role", 'r', "ROLE", "viewer (default), operator or admin"},
      {"ttl", 0, "TIME", "how long it is good for (for ever)"}}},
    {START,
     "token join",
     NULL,
     "make a token for one more host",
     NULL,
     "berth token join\n"
     "ssh r1u05 sudo berth join - < <(berth token join)",
     0,
     0,
     run_token_join,
     DOCUMENTS_UNNAMED,
     {{"ttl", 0, "TIME", "how long it is good for (15m)"}}},
    {START,
     "token ls",
     NULL,
     "list access tokens (never their secrets)",
     NULL,
     "berth token ls\n"
     "berth rm token/ci",
     0,
     0,
     run_token_ls,
     DOCUMENTS_ALL,
     {{NULL, 0, NULL, NULL}}},

    {LOOK,
     "ls",
     "[KIND]",
     "list objects; without a kind: groups and VMs",
     "Kinds: tenant, template, group, vm, network, image, disk, host, token, operation, "
     "snapshot; their plurals do as well.",
     "berth ls\n"
     "berth ls vm -t shop -o wide\n"
     "berth ls vm -l app=web -w\n"
     "berth ls host -o json | jq -r '.items[].metadata.name'",
     0,
     1,
     run_ls,
     DOCUMENTS_ALL,
     {{"label", 'l', "KEY=VALUE",
       "only objects with this label, or KEY=VALUE,KEY=VALUE with all of them"},
      {"group", 'g', "NAME", "only VMs of this group"},
      {"watch", 'w', NULL, "go on with a line for each change"}}},
    {LOOK,
     "show",
     "KIND/NAME",
     "everything about one object, for people",
     NULL,
     "berth show vm/web-1\n"
     "berth show group/web -t shop -o yaml",
     1,
     1,
     run_show,
     DOCUMENTS_ALL,
     {{NULL, 0, NULL, NULL}}},
    {LOOK,
     "explain",
     "KIND/NAME",
     "why a VM is where it is, or why it is nowhere: host by host",
     "For each host: the verdict, the reason and the smallest change that would make it "
     "fit. Works for vm/NAME and group/NAME.",
     "berth explain vm/web-1\n"
     "berth explain group/web -t shop",
     1,
     1,
     run_explain,
     DOCUMENTS_UNNAMED,
     {{NULL, 0, NULL, NULL}}},
    {LOOK,
     "events",
     NULL,
     "what happened: one line per event",
     "--follow goes on where it was after the server was away, or the cluster had no "
     "leader, for a minute at most.",
     "berth events -f\n"
     "berth events --since 0 -t shop\n"
     "berth events --name vm/web-1",
     0,
     0,
     run_events,
     DOCUMENTS_UNNAMED,
     {{"follow", 'f', NULL, "go on as events come, until Ctrl-C"},
      {"since", 0, "REVISION", "only events after this revision"},
      {"name", 0, "KIND/NAME", "only events of this object"},
      {"kind", 0, "KIND", "only events of objects of this kind"},
      {"limit", 'n', "N", "at most so many, the newest (100; all with --since)"}}},
    {LOOK,
     "watch",
     "[KIND...]",
     "a line for each change of objects, until Ctrl-C",
     "Begins with the objects as they are. A lost connection is resumed where it broke "
     "off.",
     "berth watch vm -t shop\n"
     "berth watch vm group host -o json",
     0,
     8,
     run_watch,
     DOCUMENTS_ALL,
     {{"since", 0, "REVISION", "only changes after this revision"}}},
    {LOOK,
     "console",
     "VM",
     "the serial console of a VM",
     "Interactive on a terminal: Ctrl-] leaves. Otherwise what the VM prints goes to "
     "stdout.",
     "berth console web-1\n"
     "berth console web-1 -t shop --no-follow | tail -n 20",
     1,
     1,
     run_console,
     DOCUMENTS_NONE,
     {{"no-follow", 0, NULL, "print what the console has kept, and end"}}},

    {DECLARE,
     "validate",
     "FILE...",
     "check YAML files without changing anything",
     "All faults of all files are told at once. The server is asked about what only it "
     "knows (references, rights, quotas) unless --local, which says what it could not "
     "check. A folder stands for its *.yaml files, - for stdin; what `berth ls -o yaml` "
     "prints is taken as well. With -o json or yaml the "
     "errors (file, line, column, code, message) are a document on stdout too, also "
     "those "
     "of plan and apply.",
     "berth validate examples/web.yaml\n"
     "berth validate --local examples/",
     1,
     ANY,
     run_validate,
     DOCUMENTS_UNNAMED,
     {{"local", 0, NULL, "do not ask the server"}}},
    {DECLARE,
     "plan",
     "FILE...",
     "what apply would change, where new VMs would go, and how many go away",
     "The cluster tries the files on a copy of its state: it refuses what apply would "
     "refuse, with the place in the file, and tells which VMs a quota or the hosts have "
     "no room for. Each group and VM is foretold by itself.",
     "berth plan examples/web.yaml\n"
     "berth plan examples/ --exit-code || echo there is something to do",
     1,
     ANY,
     run_plan,
     DOCUMENTS_ALL,
     {{"exit-code", 0, NULL, "end with 8 when there are changes"}}},
    {DECLARE,
     "apply",
     "FILE...",
     "make the cluster look like the files say",
     "All objects are checked first: when one is malformed, or you may not write it, "
     "nothing is uploaded or changed. Then image files named by `file:` are uploaded, "
     "unless the cluster has them, and the objects written one after the other: tenants, "
     "images, networks, templates, groups, VMs. One that the cluster refuses only then "
     "(a "
     "reference that is missing, a quota, a phase) does not undo the others: the output "
     "says of each whether it was created, changed, unchanged or refused, the exit code "
     "is the first refusal's (2 for a missing reference: the files are not valid then), "
     "and --wait waits for nothing then. `berth plan` tells before. "
     "Applying the same files again changes nothing. VMs keep what their template said "
     "when they were made, except labels; a changed template counts for those made from "
     "then on. A label that an object's file does not name any more is taken away; a VM "
     "whose file is applied has its template's labels of that moment beside its own.",
     "berth apply examples/web.yaml --wait\n"
     "cat web.yaml | berth apply - --timeout 2m --wait",
     1,
     ANY,
     run_apply,
     DOCUMENTS_ALL,
     {WAIT_FLAGS}},
    {DECLARE,
     "schema",
     NULL,
     "the JSON Schema of the YAML files, for editors",
     NULL,
     "berth schema > berth.schema.json\n"
     "berth schema | jq '.definitions | keys'",
     0,
     0,
     run_schema,
     DOCUMENTS_UNNAMED,
     {{NULL, 0, NULL, NULL}}},

    {CHANGE,
     "rm",
     "KIND/NAME...",
     "remove objects, by name or as files name them",
     "On a terminal it asks first, unless --yes. A host's --force gives up disks of VMs: "
     "those are listed, and a script has to say --yes. So it has for a lost host where "
     "VMs may still run, for they wait for it (hostFailure: wait): without the host they "
     "start elsewhere, with new disks, and run twice unless it is surely off. One that "
     "may come back runs berth down --forget, which ends them: after its removal nobody "
     "can tell it to. With -f the objects of the files "
     "go, "
     "those that use others first; a VM's disks and snapshots go with it. A host that "
     "keeps disks of "
     "stopped VMs stays, unless --force; one that votes in the log stays while another "
     "host is to take its place there, or while a voter is away. One object that others "
     "use is refused at once, "
     "with who they are; among several it waits for those that go as well, at most "
     "--timeout; a tenant's tokens that are not named are told before anything goes. VMs "
     "take a while to end: --wait ends when all is gone.",
     "berth rm group/web -t shop\n"
     "berth rm -f examples/web.yaml --yes",
     0,
     ANY,
     run_rm,
     DOCUMENTS_ALL,
     {{"file", 'f', "FILE", "the objects of this YAML file; repeatable"},
      {"force", 0, NULL, "a host: with the disks of stopped VMs that it keeps"},
      {"wait", 'w', NULL, "wait until they are gone"},
      {"timeout", 0, "TIME", "give up waiting after this long (2m)"}}},
    {CHANGE,
     "scale",
     "GROUP N",
     "set how many VMs a group has",
     NULL,
     "berth scale web 5\n"
     "berth scale shop/group/web 5 --wait",
     2,
     2,
     run_scale,
     DOCUMENTS_ALL,
     {WAIT_FLAGS}},
    {CHANGE,
     "start",
     "VM...",
     "switch VMs on",
     "A VM that was stopped starts on the host that keeps its disks, with these disks. "
     "When that host has no room, is drained or does not answer, the VM waits for it: "
     "berth explain says why, --anywhere gives the disks up: it lists the VMs and asks, "
     "a "
     "script says --yes. That holds for a host that is lost, too: its disks may come "
     "back "
     "with it. A VM that was lost while it ran may run there still, under hostFailure: "
     "wait: it goes on when the host is back, and starts elsewhere, with new disks, once "
     "the host is removed (berth rm host/NAME). If it is switched off meanwhile it stays "
     "off then, until berth start. After a restore or a recovery it stays stopped until "
     "a host says that it runs there, or until berth start, with --anywhere where no "
     "host has disks of it: that lists what may still run and asks, a script says --yes. "
     "See docs/backup-and-recovery.md.",
     "berth start jump --wait\n"
     "berth start jump --anywhere --yes",
     1,
     ANY,
     run_start,
     DOCUMENTS_ALL,
     {{"anywhere", 0, NULL, "on any host, with new disks: what they hold is lost"},
      WAIT_FLAGS}},
    {CHANGE,
     "stop",
     "VM...",
     "shut VMs down; their host keeps their disks for the next start",
     "CPU and memory are free for others meanwhile. The disks go with the VM (berth rm), "
     "or when they are given up (berth start --anywhere). --wait ends when its host says "
     "that it has ended; of a VM on a host that is lost, when that is back.",
     "berth stop jump --wait\n"
     "berth stop vm/jump vm/build -t shop",
     1,
     ANY,
     run_stop,
     DOCUMENTS_ALL,
     {{"wait", 'w', NULL, "wait until they are stopped"},
      {"timeout", 0, "TIME", "give up waiting after this long (5m)"}}},
    {CHANGE,
     "restart",
     "VM...",
     "shut VMs down and start them again, with the same disks",
     NULL,
     "berth restart web-1\n"
     "berth restart web-1 --wait",
     1,
     ANY,
     run_restart,
     DOCUMENTS_ALL,
     {WAIT_FLAGS}},
    {CHANGE,
     "pause",
     "VM...",
     "have VMs that run stand still, with what they have in memory",
     "A paused VM keeps its place, its memory and its addresses, and answers nobody: its "
     "CPUs do not run, its probe is not asked, it is not ready. berth resume lets it go "
     "on. What ends its run (a stop, a restart, a move, the loss of its host) ends the "
     "pause as well. --wait ends when its host says that it stands still.",
     "berth pause jump --wait\n"
     "berth pause web-1 web-2 -t shop",
     1,
     ANY,
     run_pause,
     DOCUMENTS_ALL,
     {{"wait", 'w', NULL, "wait until they stand still"},
      {"timeout", 0, "TIME", "give up waiting after this long (5m)"}}},
    {CHANGE,
     "resume",
     "VM...",
     "let paused VMs go on",
     "The guest goes on where it stood.",
     "berth resume jump\n"
     "berth resume web-1 web-2 -t shop --wait",
     1,
     ANY,
     run_resume,
     DOCUMENTS_ALL,
     {WAIT_FLAGS}},

    {CHANGE,
     "snapshot make",
     "VM [NAME]",
     "save a VM that runs, memory and disks of one instant, on its host",
     "The VM stands still while it is saved and then goes on. It has to run under the "
     "engine kvm and be of no group. Without a NAME it gets the VM's and a number. "
     "A snapshot belongs to the host where it was made: it does not move with its VM, "
     "and "
     "is lost with that host. It counts in the tenant's quota. See docs/snapshots.md.",
     "berth snapshot make db before-upgrade --wait\n"
     "berth snapshot make shop/vm/db",
     1,
     2,
     run_snapshot_make,
     DOCUMENTS_ALL,
     {{"wait", 'w', NULL, "wait until it is made, and show its size"},
      {"timeout", 0, "TIME", "give up waiting after this long (10m)"}}},
    {CHANGE,
     "snapshot ls",
     "[VM]",
     "list snapshots, of all VMs or of one",
     NULL,
     "berth snapshot ls\n"
     "berth snapshot ls db -t shop",
     0,
     1,
     run_snapshot_ls,
     DOCUMENTS_ALL,
     {{NULL, 0, NULL, NULL}}},
    {CHANGE,
     "snapshot rm",
     "SNAPSHOT...",
     "remove snapshots",
     "On a terminal it asks first, unless --yes. One that a VM is about to start from "
     "stays. berth rm snapshot/NAME is the same.",
     "berth snapshot rm before-upgrade\n"
     "berth snapshot rm db-1 db-2 -t shop --yes --wait",
     1,
     ANY,
     run_snapshot_rm,
     DOCUMENTS_ALL,
     {{"wait", 'w', NULL, "wait until they are gone"},
      {"timeout", 0, "TIME", "give up waiting after this long (2m)"}}},
    {CHANGE,
     "restore",
     "VM SNAPSHOT",
     "have a VM go back to one of its snapshots",
     "The VM ends and starts again on the host of the snapshot, with memory and disks of "
     "then: what came since is given up, so it asks, and a script says --yes. Until it "
     "runs, berth stop and berth start --anywhere call it off. With --lazy it runs at "
     "once "
     "and its memory is read when it is touched, and the rest meanwhile: what is damaged "
     "in the snapshot then ends it later, while it runs.",
     "berth restore db before-upgrade --wait\n"
     "berth restore db db-3 -t shop --yes --lazy",
     2,
     2,
     run_restore,
     DOCUMENTS_ALL,
     {{"lazy", 0, NULL, "run at once, while its memory is read"}, WAIT_FLAGS}},

    {HOSTS,
     "host ls",
     NULL,
     "list hosts: phase, role, load",
     NULL,
     "berth host ls\n"
     "berth host ls -o wide",
     0,
     0,
     run_host_ls,
     DOCUMENTS_ALL,
     {{"label", 'l', "KEY=VALUE",
       "only hosts with this label, or KEY=VALUE,KEY=VALUE with all of them"},
      {"watch", 'w', NULL, "go on with a line for each change"}}},
    {HOSTS,
     "host show",
     "HOST",
     "everything about a host, and its VMs",
     NULL,
     "berth host show r1u04\n"
     "berth show host/r1u04 -o json",
     1,
     1,
     run_host_show,
     DOCUMENTS_ALL,
     {{NULL, 0, NULL, NULL}}},
    {HOSTS,
     "host label",
     "HOST LABEL...",
     "set (KEY=VALUE) or take away (KEY-) labels of a host that is there",
     "Labels that are not named stay. They count at once for new placements (rules like "
     "host.label.rack == \"r1\", host.zone); VMs that run stay where they are. An admin "
     "of the cluster labels hosts, since placements trust labels: root of a worker may "
     "not. The --label of berth up and berth join is for a host's first start only.",
     "berth host label r1u04 rack=r1 gen=4\n"
     "berth host label r1u04 zone=b gen-",
     2,
     ANY,
     run_host_label,
     DOCUMENTS_ALL,
     {{NULL, 0, NULL, NULL}}},
    {HOSTS,
     "drain",
     "HOST",
     "move a host's VMs away and place no new ones there",
     "VMs that run are stopped and started elsewhere with new disks, or only stopped "
     "when "
     "their lifecycle says hostDrain: stop. A VM for which there is no room elsewhere "
     "runs "
     "on until there is; when no other host takes VMs, that is said and --wait ends with "
     "5. VMs that are stopped stay: their disks are "
     "here, and each is named. If the host votes in the log and another one can, that "
     "one "
     "takes its place there.",
     "berth drain r1u04 --reason \"PSU swap\" --wait\n"
     "berth drain r1u04 && berth ls vm -w",
     1,
     1,
     run_drain,
     DOCUMENTS_ALL,
     {{"reason", 'r', "TEXT", "why; explain shows it to those who wonder"},
      {"wait", 'w', NULL, "wait until no VM is left there"},
      {"timeout", 0, "TIME", "give up waiting after this long (10m)"}}},
    {HOSTS,
     "undrain",
     "HOST",
     "let a host take VMs again",
     NULL,
     "berth undrain r1u04\n"
     "berth undrain r1u04 && berth host ls",
     1,
     1,
     run_undrain,
     DOCUMENTS_ALL,
     {{NULL, 0, NULL, NULL}}},

    {SAFETY,
     "backup save",
     "FILE",
     "write the cluster's whole state at one revision into a file",
     "Online, through any host, with every write that was answered before. A FILE that "
     "is "
     "there is not replaced unless --force. It holds all "
     "objects, not the content of images and disks, and is as secret as the cluster: see "
     "docs/backup-and-recovery.md. The leader makes one by itself every few hours as "
     "well (berth up --backup-every).",
     "berth backup save rack.backup --encrypt\n"
     "berth backup save /mnt/safe/rack.backup --passphrase-file /root/passphrase",
     1,
     1,
     run_backup_save,
     DOCUMENTS_UNNAMED,
     {{"encrypt", 'e', NULL, "under a passphrase"},
      {"force", 0, NULL, "replace FILE when it is there"},
      PASSPHRASE_FLAG}},
    {SAFETY,
     "backup verify",
     "FILE",
     "check a backup file whole, offline, and tell what it holds",
     "Every byte is checked and the state loaded as a restore would; no server is asked.",
     "berth backup verify rack.backup\n"
     "berth backup verify /mnt/safe/rack.backup -o json | jq .objects",
     1,
     1,
     run_backup_verify,
     DOCUMENTS_UNNAMED,
     {PASSPHRASE_FLAG}},

    {SAFETY,
     "recover",
     NULL,
     "go on from this host's log when most voters are gone",
     "With berthd stopped on this host: shows the log, asks, and makes this host the "
     "only "
     "voter. Every host that voted besides has to be off or to have forgotten its "
     "cluster (berth down --forget) before, and joins again after. The log that was "
     "there is kept beside the new one, as raft.before-TIME. See "
     "docs/backup-and-recovery.md.",
     "berth down && berth recover\n"
     "berth recover --show -o json",
     0,
     0,
     run_recover,
     DOCUMENTS_UNNAMED,
     {{"show", 0, NULL, "only show what the log holds, and change nothing"}}},

    {ABOUT,
     "completion",
     "bash|zsh",
     "a script that lets the shell complete berth's command lines",
     "Commands and flags come from this program, names from the cluster, which is asked "
     "for a second at most.",
     "source <(berth completion bash)\n"
     "berth completion bash > /etc/bash_completion.d/berth",
     1,
     1,
     run_completion,
     DOCUMENTS_NONE,
     {{NULL, 0, NULL, NULL}}},
    {ABOUT,
     "version",
     NULL,
     "versions of berth and berthd, and the cluster's level",
     NULL,
     "berth version\n"
     "berth version -o json",
     0,
     0,
     run_version,
     DOCUMENTS_UNNAMED,
     {{"local", 0, NULL, "do not ask the server"}}},
    {ABOUT,
     "help",
     "[COMMAND|TOPIC]",
     "help on a command or a topic",
     "Topics: names, output, exit-codes, environment, roles, waiting; `berth help "
     "topics` "
     "tells what they are about.",
     "berth help apply\n"
     "berth help exit-codes",
     0,
     2,
     run_help,
     DOCUMENTS_NONE,
     {{NULL, 0, NULL, NULL}}},
    {0},
};
