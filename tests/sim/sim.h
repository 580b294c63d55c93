/* A rack in one process, on virtual time.
 *
 * What is real: consensus (libraft, guard, group commit, changes of members), the model's
 * state machine, control, leader, voters, worker, lease, confirm, orders, scheduler. What
 * is simulated, by other definitions of the same functions: disk and channels of the log
 * (sim_raft*.c), the seal's file (sim_seal.c), the loop's turns and timers (sim_loop.c),
 * messages between hosts (sim_link.c), VM processes and the fence (sim_vms.c).
 *
 * Shapes: `struct sim` is a run: machines, links between them, clients, an oracle that
 * sees everything. A machine has a disk, a clock of its own and VM processes, which
 * outlive the `struct sim_process`, its berthd. A process is paused, killed and started
 * again as a whole. Threads: one. Ownership: the run owns all.
 * Errors: world_fail on the first broken promise.
 */
#pragma once

#include "agent/control.h"
#include "agent/identity.h"
#include "agent/leader.h"
#include "agent/members.h"
#include "api/control_plane.h"
#include "base/clock.h"
#include "base/list.h"
#include "sim_disk.h"
#include "sim_world.h"

#include <stdbool.h>
#include <stdint.h>

#define SIM_MACHINES_MAX      12
#define SIM_CLIENTS_MAX       8
#define SIM_VMS               9  /* of the group, in rack runs */
#define SIM_OWN_VMS           3  /* of a user, where a run has such */
#define SIM_KEPT_MAX          64 /* VMs at a time */
#define SIM_FAULTS_LOG_MS     12000
#define SIM_FAULTS_RACK_MS    20000 /* leases have to end and hosts to come back */
#define SIM_FAULTS_MEMBERS_MS 32000 /* and voters to be replaced */
#define SIM_SPARES            2     /* machines that join later, where members change */
#define SIM_VOTES             64    /* terms of which votes are remembered */
#define SIM_KEYS_MAX          8     /* registers that clients write and read */
#define SIM_BOOKED_MAX        64    /* faults of a run */
#define SIM_FAULT_KINDS_MAX   32
#define SIM_REQUEST_MARK      0x77 /* first byte of clients' request ids; then the key */
#define SIM_PORT_RAFT         7442
#define SIM_CLUSTER_ID        UINT64_C(0x51)

struct raft;
struct raft_guard;
struct raft_backing;
struct sim;
struct oracle;
struct sim_watchers;
struct sim_news;

/* Mistakes that can be put in, to see them found. */
enum sim_bug {
    SIM_BUG_NONE = 0,
    SIM_BUG_BARE,             /* the library without its guard */
    SIM_BUG_ACK_BEFORE_FSYNC, /* writes are called durable before they are */
    SIM_BUG_NO_LEADER_WAIT,   /* a new leader does not wait out old leases */
    SIM_BUG_LEASE_FROM_ACK,   /* the lease counts from when the ack arrives */
    SIM_BUG_OLD_ORDERS,       /* orders of earlier leaders are taken */
    SIM_BUG_OLD_START,        /* VMs start by an earlier leader's orders */
    SIM_BUG_UNKNOWN_IS_OVER,  /* a decision without an answer counts as not taken */
    SIM_BUG_NO_EPOCH_CHECK,   /* starts and resumes look at no epoch */
    SIM_BUG_RESUME_LATE,      /* frozen VMs go on after the lease has ended */
    SIM_BUG_NO_FENCE,         /* nobody fences while berthd hangs */
    SIM_BUG_DROP_AT_RESTART,  /* no orders yet is taken for orders of nothing */
    SIM_BUG_NO_KEEP,          /* keepers are not told of the disks that they keep */
    SIM_BUG_DISKS_ANEW,       /* new disks in place of kept ones, without a word */
    SIM_BUG_DISKS_FORGOTTEN,  /* hosts do not say what they keep */
    SIM_BUG_FEED_GAP,         /* a change now and then is missing in the feed */
    SIM_BUG_RESUME_SKIPS,     /* a watch that goes on misses one revision */
    SIM_BUG_NO_COMPARE,       /* what a write expects to find is not looked at */
    SIM_BUG_SEAL_UNWAITED,    /* the seal's writes overtake one that is under way */
    SIM_BUG_DAMAGE_AS_TORN,   /* the log's end is dropped where it does not read */
    SIM_BUG_LOG_ANEW,         /* a voter without its log begins a new one */
    SIM_BUG_EARLY_VOTER,      /* a standby gets its vote before it has caught up */
    SIM_BUG_TWO_AT_ONCE,      /* who is removed is replaced in the same entry */
    SIM_BUG_STANDBY_COUNTS,   /* acks of those who do not vote count as votes' */
    SIM_BUG_BEGUN_UNSAID,     /* hosts do not say that a run which has ended was up */
    SIM_BUG_LOSS_UNSAID,      /* what is damaged is told of as nobody's */
    SIM_BUG_CHANGE_STAYS,  /* a change of members that was loaded counts as committed */
    SIM_BUG_CHANGE_MISSED, /* elections while a change of members is being written */
    SIM_BUG_NEVER_ASKS,    /* a candidate without votes stands again and again */
    SIM_BUG_STALE_READ,    /* whoever is asked answers reads by what it has */
    SIM_BUG_OWN_CLOCK,     /* commands take the time of who applies them */
    SIM_BUG_SLOW_ELECTION, /* a lost leader is waited for longer than 10 s */
    SIM_BUG_COUNT
};
extern const char *const sim_bug_names[SIM_BUG_COUNT];

struct sim_config {
    uint64_t seed;
    enum sim_bug bug;
    unsigned voters; /* 1, 3 or 5 machines with the log */
    unsigned hosts;  /* further machines; rack runs only */
    unsigned spares; /* that join later */
    bool rack;       /* hosts run VMs; else clients write registers only */
    bool members;    /* who votes changes: machines are lost, others join; rack only */
    bool late; /* hosts come back with old orders while the leader changes; rack only */
    bool own_vms; /* beside the group's a user has some of their own; rack only */
    unsigned clients;
    uint64_t faults_ms; /* how long faults go on */
    bool telling;
    bool scripted; /* no faults and clients of its own: a test drives it */
};

/* What a seed is run with where nobody says otherwise. */
struct sim_config sim_config_of(uint64_t seed, bool rack);
/* Likewise, and its members change, as they do in every third seed. */
struct sim_config sim_config_changing(uint64_t seed);
/* Likewise, and hosts come back with old orders, as they do in every fourth one of the
 * other seeds. */
struct sim_config sim_config_late(uint64_t seed);

/* What the end of a process makes of a write that a thread is waiting for. */
enum sim_cut { SIM_CUT_NONE = 0, SIM_CUT_TORN, SIM_CUT_WHOLE };

struct sim_process {
    struct sim_machine *machine;
    struct clock clock;
    struct list timers; /* struct loop_timer */
    struct list posts;  /* struct loop_post */
    struct list turns;  /* struct loop_turn */
    struct list closings;
    struct list pools; /* struct work_pool */
    bool on_thread;    /* what runs is a job: nobody but it waits for the disk */
    enum sim_cut cut;
    uint64_t ids;
    bool doomed; /* nothing it does has an effect any more */
    bool fatal;
    char why[256];
    struct members members;
    struct identity identity;
    struct loop_timer *entry; /* asks to be let in */
    unsigned ask_at;          /* that machine */
    struct control *control;
    struct leader *leader;
    struct leader *leader_doomed; /* until the log is closed */
    struct worker *worker;
    char folder[8];
    struct state *state; /* control's, known from its birth on */
    struct raft_backing *backing;
    struct raft_guard *guard;
    struct raft *raft;
    /* the state machine as control gave it, behind the oracle's eyes */
    struct consensus_fsm fsm;
    size_t place; /* the oracle's next slot for us; SIZE_MAX: to be found */
    uint64_t term_led;
    /* what the oracle has seen of it as leader (sim_members.c) */
    uint64_t commit_seen;
    uint64_t commit_led;  /* when it was elected */
    unsigned voters_seen; /* a bit a machine */
    unsigned logs_seen;   /* likewise, with standbys */
    uint64_t change_seen; /* the index of the last change that it has had to commit */
    /* of the log: the life of the process at the other end, as of when it was opened;
     * 0: none */
    uint64_t channels[SIM_MACHINES_MAX];
    /* the API that serves watches (sim_api.c), and changes of the command being applied
     */
    struct control_plane plane;
    struct api *api;
    struct loop_post *feed_post;
    struct list streams;
    struct sim_news *news;
    size_t news_count, news_capacity;
};

/* A small file that is written as a whole. */
struct sim_file {
    uint8_t *data; /* NULL: none */
    size_t size;
};

struct sim_machine {
    struct sim *sim;
    unsigned index;
    uint64_t uid; /* of the host in the state */
    uint64_t raft_id;
    struct mesh_key key;
    char address[CONSENSUS_ADDRESS_SIZE]; /* in the log */
    struct sim_disk disk;
    struct world_owner berthd;       /* of the process's events; outlives it */
    struct world_owner disk_threads; /* likewise: they go on while the loop is held up */
    int32_t clock_ppm;               /* rate error */
    uint64_t clock_base_ns;          /* its clock at true time 0 */
    int64_t wall_offset_ms;
    bool has_log;    /* a folder of it, to be exact */
    bool log_begun;  /* it has had one (agent/log_mark.h) */
    bool log_sealed; /* and has been open */
    bool joined;     /* the cluster; else it asks to be let in */
    struct sim_file members_file;
    struct {
        uint64_t term, id;
    } votes[SIM_VOTES];          /* by term */
    bool muted;                  /* nobody hears that it asks for votes (scripted) */
    bool tampered;               /* a fault has damaged its disk */
    bool condemned;              /* its disk is no good any more: does not come back */
    bool down;                   /* powered off until the fault ends */
    unsigned unready;            /* faults that keep images from it */
    struct sim_process *process; /* NULL: not running */
    struct sim_vms *vms;         /* processes of VMs, and the fence */
    struct sim_saved *saved;
    int lease_fd; /* what worker wrote down of its lease */
};

struct sim_link_state {
    unsigned cuts;          /* faults that cut it now; any: nothing gets through */
    uint64_t held_until_ns; /* what is sent before arrives then, not lost: a stream */
    unsigned drop_permille;
    unsigned twice_permille;
    bool reorder;
    uint64_t slow_ns;
    uint64_t last_ns; /* in order unless reorder */
};

struct sim_fault;
struct sim_booked {
    struct sim *sim;
    const struct sim_fault *fault;
    unsigned a, b; /* machines, once it has begun */
    bool armed;    /* waits for a change of members */
    bool changing; /* one is under way, of that machine: */
    unsigned changed;
};

struct sim_stats {
    uint64_t acked, unknown, refused, reads, packets, crashes, faults, leaders, retries;
    uint64_t vm_starts, vm_disk_starts, vm_freezes, vm_kills, vm_double;
    uint64_t vm_pauses, vm_restores, restores_called_off, snapshots, snapshots_damaged;
    uint64_t disks_given_up, disks_removed;
    uint64_t refusals_to_start;
    uint64_t watch_events, watch_resumes, watch_resets;
    uint64_t histories, undecided;
    uint64_t gone, joined, changes, replaced, helped;
};

/* What the log says of one VM's disks, as of the newest command. */
struct sim_kept {
    uint64_t vm;
    uint64_t host, epoch;           /* where it is, in which run */
    uint64_t disk_host, disk_epoch; /* as in the VM's status */
    enum stop_intent intent;
    bool has_run;
    bool grouped;
    bool waits;       /* for a host that is lost */
    uint64_t restore; /* begins from that snapshot */
    uint64_t wished;  /* the epoch in which its user last said so */
    uint64_t unheard; /* the last that was given up without a word of its host */
};

struct sim {
    struct world world;
    struct sim_config config;
    struct sim_machine machines[SIM_MACHINES_MAX];
    unsigned machine_count;
    struct sim_link_state links[SIM_MACHINES_MAX + SIM_CLIENTS_MAX]
                               [SIM_MACHINES_MAX + SIM_CLIENTS_MAX];
    struct list packets;
    struct sim_process *running; /* whose code is being run */
    struct oracle *oracle;
    struct sim_clients *clients;
    struct sim_watchers *watchers; /* NULL: nobody watches */
    uint64_t connections;          /* of watchers, so far */
    struct sim_kept kept[SIM_KEPT_MAX];
    unsigned kept_count;
    struct sim_stats stats;
    uint64_t faults_of_kind[SIM_FAULT_KINDS_MAX];
    struct sim_booked booked[SIM_BOOKED_MAX];
    unsigned snapshot_threshold;
    unsigned snapshot_trailing;
    bool healed;
    bool unheard; /* a restore has been hit (sim_faults_restoring) */
};

struct sim_fault_list;

/* Faults whose bit is set in the mask happen; list NULL: none. */
struct sim *sim_new(const struct sim_config *config,
                    const struct sim_fault_list *faults,
                    uint64_t mask);
/* Runs it whole: faults, healing, and the checks of the end. True when every promise was
 * kept. */
bool sim_run(struct sim *sim);
/* For scripts: runs until then, or a violation. */
void sim_run_until(struct sim *sim, uint64_t at_ns);
/* A number for all that has happened: every event, chance and command, and what was
 * counted. Two runs of one seed have the same; so do builds whose racks behave alike. */
uint64_t sim_trace(struct sim *sim);
struct sim *sim_free(struct sim *sim);
/* The run whose code runs: definitions that stand in for real ones find their process. */
struct sim *sim_current(void);

/* ---- machines (sim_machine.c) ---- */

void sim_machine_init(struct sim *sim, unsigned index);
void sim_machine_fini(struct sim_machine *machine);
/* Starts berthd unless it runs or may not. */
void sim_machine_start(struct sim_machine *machine);
/* berthd dies, at once; VMs live on. It starts again after restart_ns (WORLD_NEVER: not
 * by itself). */
void sim_machine_kill(struct sim_machine *machine, const char *why, uint64_t restart_ns);
/* Called from inside the process: it dies when its present event is over. */
void sim_process_doom(struct sim_process *process, const char *why);
/* Its loop waits for something until then. */
void sim_process_hold(struct sim_process *process, uint64_t until_ns);
uint64_t sim_machine_clock_ns(const struct sim_machine *machine);
/* True time that passes while the machine's clock passes so much. */
uint64_t sim_machine_true_ns(const struct sim_machine *machine, uint64_t clock_ns);
uint64_t sim_machine_wall_ms(const struct sim_machine *machine);
struct sim_machine *sim_machine_of_uid(struct sim *sim, uint64_t uid);
struct sim_machine *sim_machine_of_raft(struct sim *sim, uint64_t raft_id);
bool sim_process_leads(const struct sim_process *process);
/* Its disk tells it of its death. */
void sim_machine_watch_disk(struct sim_machine *machine);
/* An event that only wakes its owner. */
void sim_nothing(void *context, uint64_t argument);

/* ---- what a berthd does beyond its log (sim_host.c) ---- */

/* What every machine of the cluster begins with: whom it may call. */
void sim_host_format(struct sim *sim);
/* Reads that, before anything else. */
void sim_host_prepare(struct sim_process *process);
/* The rest: its part in the log, if it has one, and its work; or it asks to be let in. */
int sim_host_open(struct sim_process *process, struct err *err);
/* Before the log is closed, and after. */
void sim_host_close(struct sim_process *process);
void sim_host_closed(struct sim_process *process);
void sim_host_message(struct sim_process *process,
                      const struct msg_member *from,
                      enum message_type type,
                      void *message);
void sim_host_leadership(struct sim_process *process, bool is_leader, uint64_t term);
void sim_host_change(struct sim_process *process, const struct change *change);
void sim_host_restored(struct sim_process *process);
void sim_host_power_off(struct sim_machine *machine);
/* Somebody else's answer to sim_host_open's question, and the question. */
void sim_host_join_ask(struct sim_process *process,
                       const struct sim_machine *guest,
                       const struct msg_join *message);
void sim_host_join_reply(struct sim_process *process, struct msg_join_reply *reply);
/* What its operator does for a member all of whose voters are gone (`berth join`). */
void sim_host_help(struct sim_process *process);
/* By its members, or where there are none, it has a part in the log that goes on. */
bool sim_host_has_part(const struct sim_process *process);
/* The log is opened; the host's part of it. */
int sim_machine_open_log(struct sim_process *process, struct err *err);
void sim_host_describe(const struct sim_machine *machine, struct host_status *ret_status);

/* ---- messages between hosts (sim_link.c) ---- */

/* A stranger asks to be let in. */
void sim_link_join(struct sim_process *guest,
                   const struct sim_machine *to,
                   const struct msg_join *message);

/* ---- clients (sim_client.c) ---- */

/* So many machines, from the first on, may be asked. */
unsigned sim_asked_count(const struct sim *sim);

void sim_clients_start(struct sim *sim);
/* Nothing new is begun. */
void sim_clients_stop(struct sim *sim);
/* Each has been served since everything healed. */
bool sim_clients_served(const struct sim *sim);
/* One of them has had a write acknowledged since then; or a read, where nobody waits for
 * a write. */
bool sim_clients_go_on(const struct sim *sim);
/* At the end: is there an order that explains what they saw? If not, it is a violation.
 */
bool sim_clients_explained(struct sim *sim);
void sim_clients_free(struct sim *sim);

/* For scripts: a write of a number into a register, proposed at this machine. */
struct sim_answer {
    bool given;
    int code;
    struct sim_process *asked; /* for a read: this, of that register */
    unsigned key;
    uint64_t value; /* what was read */
};
void sim_write(struct sim_machine *machine,
               unsigned key,
               uint64_t number,
               struct sim_answer *ret_answer);
/* Likewise, and a read. */
void sim_read(struct sim_machine *machine, unsigned key, struct sim_answer *ret_answer);

/* ---- who is in the log (sim_members.c) ---- */

/* Bit i is machine i. */
unsigned sim_members_voters(const struct sim_process *process);
unsigned sim_members_with_log(const struct sim_process *process); /* and standbys */
/* May be lost for good: under every configuration that anybody has, a majority is left.
 */
bool sim_members_can_spare(struct sim *sim, const struct sim_machine *machine);
/* It is gone, with its disks. */
void sim_members_lose(struct sim_machine *machine);
/* Its log is gone, the rest is not. */
void sim_members_lose_log(struct sim_machine *machine);
/* A machine without a log begins one. */
void sim_members_begin(struct sim_machine *machine);
/* Votes are cast; one votes for itself, having asked last whether it may stand in the
 * term `asked`; a leader is elected, has more committed, may have changed members. */
void sim_members_voted(struct sim_machine *machine, uint64_t term, uint64_t id);
void sim_members_stands(struct sim_process *process, uint64_t term, uint64_t asked);
void sim_members_elected(struct sim_process *process);
void sim_members_committed(struct sim_process *process);
/* What libraft takes for the members is what its log says. */
void sim_members_agree(struct sim_process *process);
void sim_members_look(struct sim_process *process);
/* As many voters as there should be, all well, and recorded as what they are. */
bool sim_members_settled(struct sim *sim);

/* ---- VM processes and the fence (sim_vms.c) ---- */

void sim_vms_init(struct sim_machine *machine);
void sim_vms_fini(struct sim_machine *machine);
void sim_vms_power_off(struct sim_machine *machine);
/* How many VMs run. */
unsigned sim_vms_alive(const struct sim_machine *machine);
/* It has disks that a run of that epoch left, or has begun with. */
bool sim_vms_holds(const struct sim_machine *machine, uint64_t uid, uint64_t epoch);
/* Has this run of the VM been up there? */
bool sim_vms_has_begun(const struct sim_machine *machine, uint64_t uid, uint64_t epoch);
/* Does this run of the VM run there, paused or not? */
bool sim_vms_runs(const struct sim_machine *machine, uint64_t uid, uint64_t epoch);
struct vm_supervisor;
struct sim_machine *sim_vms_machine(const struct vm_supervisor *supervisor);
/* Tells the berthd that is there, if any. */
void sim_vms_snapshots_changed(const struct sim_machine *machine);

/* ---- snapshots on a machine's disk (sim_saved.c) ---- */
void sim_saved_init(struct sim_machine *machine);
void sim_saved_fini(struct sim_machine *machine);
/* A new berthd looks at them. */
void sim_saved_opened(struct sim_machine *machine);
/* Is this snapshot there, whole? It has to be the VM's, of an epoch before this one. */
bool sim_saved_holds(const struct sim_machine *machine,
                     uint64_t snapshot,
                     uint64_t vm,
                     uint64_t epoch);
/* Its disks on their way to the run of that epoch: 1 under way, 0 there, or an error. */
int sim_saved_restore(struct sim_machine *machine,
                      uint64_t snapshot,
                      uint64_t vm,
                      uint64_t epoch);
/* The hosts that are up have whole what the log calls ready. */
bool sim_saved_agree(struct sim *sim);

/* ---- disks of VMs: the log's word and the hosts' (sim_kept.c) ---- */

/* A command took effect that nobody has applied before. */
void sim_kept_applied(struct sim *sim,
                      const struct state *state,
                      const struct command *command);
/* What the log says of the VM; NULL: it has none such. */
const struct sim_kept *sim_kept_find(const struct sim *sim, uint64_t vm);
/* A machine removes the disks of a VM, which its run of that epoch was the last to use.
 */
void sim_kept_removed(struct sim_machine *machine, uint64_t vm, uint64_t epoch);

/* ---- a user of the VMs (sim_user.c) ---- */

void sim_user_start(struct sim *sim);

/* ---- the oracle (sim_oracle.c): sees everything, at once ---- */

struct oracle *oracle_new(void);
struct oracle *oracle_free(struct oracle *oracle);
/* After each event of a process: leaders. */
void oracle_look(struct sim *sim, struct sim_process *process);
/* A command was applied (before or after the others). */
void oracle_applied(struct sim *sim,
                    struct sim_process *process,
                    uint64_t index,
                    const void *data,
                    size_t size,
                    const struct consensus_result *result);
void oracle_restored(struct sim *sim, struct sim_process *process);
/* A log was refused at start: was that right? */
void oracle_condemned(struct sim *sim, const struct sim_machine *machine);
/* How many commands are known; the newest revision. */
size_t oracle_count(const struct oracle *oracle);
/* The one order, for sim_trace. */
void oracle_note(const struct sim *sim, struct world *world);
/* After everything has healed: everybody alike. */
bool oracle_all_agree(struct sim *sim);

/* Writes of clients, by a number that each bears in its request id. */
struct oracle_write {
    uint64_t number; /* never 0 */
    unsigned key;
    uint64_t revision; /* 0: not applied as far as anybody knows */
};
/* The value of a register at a revision: the number of the last write; 0: none. */
uint64_t oracle_value_at(const struct oracle *oracle, unsigned key, uint64_t revision);
uint64_t oracle_revision_of(const struct oracle *oracle, uint64_t number);

/* ---- loop (sim_loop.c) ---- */

/* Turns until nothing is left to be told. */
void sim_loop_turn(struct sim_process *process);
void sim_loop_later(struct sim_process *process,
                    void (*fn)(void *context),
                    void *context);
/* One of its threads waits for the disk. */
bool sim_loop_thread_waits(const struct sim_process *process);
/* The process dies: what its threads do now is done, or half done, or not at all. */
void sim_loop_cut(struct sim_process *process);
void sim_loop_free(struct sim_process *process);

/* ---- packets (sim_net.c) ---- */

struct sim_packet {
    struct list link;
    struct sim *sim;
    unsigned from, to; /* machines; from SIM_MACHINES_MAX on: clients */
    unsigned arrivals; /* still to come */
    void (*arrive)(struct sim_packet *packet, struct sim_process *process);
    void (*fini)(struct sim_packet *packet);
};
/* Sends; takes the packet, which arrives no, one or several times. For clients process is
 * NULL. */
void sim_net_send(struct sim *sim, struct sim_packet *take_packet);
void sim_net_free(struct sim *sim);
/* A packet is on its way there. */
bool sim_net_is_under_way(const struct sim *sim, unsigned from, unsigned to);
bool sim_net_is_cut(const struct sim *sim, unsigned from, unsigned to);

/* ---- the log's disk and peers (sim_raft.c, sim_seal.c) ---- */

void sim_raft_format(struct sim *sim);
void sim_raft_format_command(struct sim *sim, const void *frame, size_t size);
uint64_t sim_raft_leader_term(const struct sim_process *process); /* 0: does not lead */
uint64_t sim_raft_term(const struct sim_process *process);
uint64_t sim_raft_commit(const struct sim_process *process);
uint64_t sim_raft_applied(const struct sim_process *process);
/* What the machine's seal promises to be durable. */
uint64_t sim_raft_sealed_index(struct sim_machine *machine);
uint64_t sim_raft_last_index(const struct sim_process *process);
