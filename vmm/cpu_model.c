#include "vmm/cpu_model.h"

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum cpu_register { REG_EAX = 0, REG_EBX, REG_ECX, REG_EDX };

/* One register of feature bits: what each level may show, and the bits that a level has
 * by definition, which the host therefore must have. Levels above may show and have what
 * those below do. */
struct feature_word {
    uint32_t leaf;
    uint32_t subleaf;
    enum cpu_register reg;
    uint32_t shown[CPU_LEVEL_COUNT];
    uint32_t needed[CPU_LEVEL_COUNT];
};

#define BIT(number) (UINT32_C(1) << (number))

/* Leaf 1, ECX */
#define SSE3    BIT(0)
#define PCLMUL  BIT(1)
#define MONITOR BIT(3)
#define VMX     BIT(5)
#define SSSE3   BIT(9)
#define FMA     BIT(12)
#define CX16    BIT(13)
#define PDCM    BIT(15)
#define PCID    BIT(17)
#define SSE41   BIT(19)
#define SSE42   BIT(20)
#define X2APIC  BIT(21)
#define MOVBE   BIT(22)
#define POPCNT  BIT(23)
#define TSC_DL  BIT(24)
#define AES     BIT(25)
#define XSAVE   BIT(26)
#define OSXSAVE BIT(27)
#define AVX     BIT(28)
#define F16C    BIT(29)
#define RDRAND  BIT(30)
#define HYPER   BIT(31)
/* Leaf 1, EDX: FPU to SSE2, without the processor serial number, thermal bits and PBE */
#define BASE_EDX UINT32_C(0x178bfbff)
#define HTT      BIT(28)
/* Leaf 7, EBX */
#define FSGSBASE   BIT(0)
#define TSC_ADJUST BIT(1)
#define BMI1       BIT(3)
#define AVX2       BIT(5)
#define SMEP       BIT(7)
#define BMI2       BIT(8)
#define ERMS       BIT(9)
#define INVPCID    BIT(10)
#define AVX512F    BIT(16)
#define AVX512DQ   BIT(17)
#define RDSEED     BIT(18)
#define ADX        BIT(19)
#define SMAP       BIT(20)
#define CLFLUSHOPT BIT(23)
#define CLWB       BIT(24)
#define AVX512CD   BIT(28)
#define AVX512BW   BIT(30)
#define AVX512VL   BIT(31)
/* Leaf 7, ECX and EDX */
#define UMIP        BIT(2)
#define SPECULATION (BIT(10) | BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(31))
#define ARCH_CAPS   BIT(29)
/* Leaf 0x80000001, ECX and EDX */
#define LAHF         BIT(0)
#define CMP_LEGACY   BIT(1)
#define SVM          BIT(2)
#define CR8_LEGACY   BIT(4)
#define LZCNT        BIT(5)
#define PREFETCHW    BIT(8)
#define TOPOLOGY_EXT BIT(22)
#define SYSCALL_EDX  UINT32_C(0x2a93fbff) /* SYSCALL, NX, RDTSCP, LM and AMD's copies */
#define LONG_MODE    BIT(29)
#define GIB_PAGES    BIT(26)
/* Leaf 0x80000008, EBX: IBPB, IBRS, STIBP, SSBD and what says they are not needed */
#define AMD_SPECULATION                                                              \
    (BIT(12) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(18) | BIT(19) | BIT(24) | \
     BIT(25) | BIT(26))
/* Leaf 0xd: parts of the extended state; 0xd.1, EAX */
#define STATE_V2  UINT32_C(0x03)
#define STATE_V3  UINT32_C(0x07)
#define STATE_V4  UINT32_C(0xe7)
#define XSAVEOPT  BIT(0)
#define XSAVEC    BIT(1)
#define XGETBV1   BIT(2)
#define INVARIANT BIT(8) /* leaf 0x80000007, EDX */
/* Leaf 0x40000001, EAX: clocks, faults that come later, stolen time, ends of interrupts,
 * waking, flushing and calling others, yielding: KVM has them since Linux 5.8. Not what
 * lets a guest tune its host. */
#define KVM_CLOCKS (BIT(0) | BIT(1) | BIT(3) | BIT(24))
#define KVM_FAULTS (BIT(4) | BIT(14))
#define KVM_OTHERS (BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(13))
#define KVM_NAMED  (KVM_CLOCKS | KVM_FAULTS | KVM_OTHERS)

#define V2_1C_NEEDED (SSE3 | SSSE3 | CX16 | SSE41 | SSE42 | POPCNT)
#define V3_1C_NEEDED (FMA | MOVBE | XSAVE | AVX | F16C)
#define V2_1C_SHOWN  (V2_1C_NEEDED | PCLMUL | PCID | X2APIC | TSC_DL | AES | XSAVE | HYPER)
#define V2_7B_SHOWN  (FSGSBASE | TSC_ADJUST | SMEP | ERMS | INVPCID)
#define V3_7B_NEEDED (BMI1 | AVX2 | BMI2)
#define V4_7B_NEEDED (AVX512F | AVX512DQ | AVX512CD | AVX512BW | AVX512VL)
#define ALL          UINT32_MAX

/* Index 0, `host`, shows all: what it must not see is taken from every level below. */
static const struct feature_word words[] = {
    {1,
     0,
     REG_ECX,
     {ALL, V2_1C_SHOWN, V3_1C_NEEDED | RDRAND, 0},
     {0, V2_1C_NEEDED, V3_1C_NEEDED, 0}},
    {1, 0, REG_EDX, {ALL, BASE_EDX, 0, 0}, {0}},
    {7,
     0,
     REG_EBX,
     {ALL, V2_7B_SHOWN, V3_7B_NEEDED,
      V4_7B_NEEDED | RDSEED | ADX | SMAP | CLFLUSHOPT | CLWB},
     {0, 0, V3_7B_NEEDED, V4_7B_NEEDED}},
    {7, 0, REG_ECX, {ALL, UMIP, 0, 0}, {0}},
    {7, 0, REG_EDX, {ALL, SPECULATION, 0, 0}, {0}},
    {7, 1, REG_EAX, {ALL, 0, 0, 0}, {0}},
    {0xd, 0, REG_EAX, {ALL, STATE_V2, STATE_V3, STATE_V4}, {0, 0, STATE_V3, STATE_V4}},
    {0xd, 0, REG_EDX, {ALL, 0, 0, 0}, {0}},
    {0xd, 1, REG_EAX, {ALL, XSAVEOPT, 0, XSAVEC | XGETBV1}, {0}},
    {0xd, 1, REG_ECX, {ALL, 0, 0, 0}, {0}},
    {0xd, 1, REG_EDX, {ALL, 0, 0, 0}, {0}},
    {0x80000001,
     0,
     REG_ECX,
     {ALL, LAHF | CMP_LEGACY | CR8_LEGACY | PREFETCHW | TOPOLOGY_EXT, LZCNT, 0},
     {0, LAHF, LZCNT, 0}},
    {0x80000001, 0, REG_EDX, {ALL, SYSCALL_EDX, GIB_PAGES, 0}, {0, LONG_MODE, 0, 0}},
    {0x80000007, 0, REG_EDX, {ALL, 0, 0, 0}, {0}},
    {0x40000001, 0, REG_EAX, {ALL, KVM_NAMED, 0, 0}, {0, KVM_NAMED, 0, 0}},
    {0x40000001, 0, REG_EDX, {ALL, 0, 0, 0}, {0}},
    {0x80000008, 0, REG_EBX, {ALL, AMD_SPECULATION, 0, 0}, {0}},
};

/* Off on every level. */
static const struct {
    uint32_t leaf;
    enum cpu_register reg;
    uint32_t bits;
} hidden[] = {
    {1, REG_ECX, MONITOR | VMX | PDCM},
    {0x80000001, REG_ECX, SVM},
    {0x80000007, REG_EDX, INVARIANT},
};

static const char *const level_names[CPU_LEVEL_COUNT] = {
    [CPU_HOST] = "host",
    [CPU_V2] = "x86-64-v2",
    [CPU_V3] = "x86-64-v3",
    [CPU_V4] = "x86-64-v4",
};

#define PERFORMANCE_LEAF  0xau
#define STATE_LEAF        0xdu
#define TOPOLOGY_LEAF     0xbu
#define TOPOLOGY_LEAF_NEW 0x1fu
#define CACHE_LEAF        4u
#define AMD_CACHE_LEAF    0x8000001du
#define AMD_CORE_LEAF     0x8000001eu
#define NAMED_LEAF_MAX    0xdu /* of the standard range, for every level but host */
#define HYPERVISOR_LEAF   0x40000000u
#define KVM_LEAF          0x40000001u
#define EXTENDED_LEAF     0x80000000u
#define FEATURES_LEAF     0x80000001u
#define ADDRESS_LEAF      0x80000008u
#define LINEAR_BITS       48u /* of four levels of page tables */
#define MAKER_SIZE        13u /* of leaf 0, with its NUL */

int cpu_level_parse(const char *name, enum cpu_level *ret_level, struct err *err)
{
    for (unsigned i = 0; i < CPU_LEVEL_COUNT; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum cpu_level)i;
            return 0;
        }
    }
    return err_set(err, BERTH_EINVALID,
                   "CPU %.40s: not host, x86-64-v2, x86-64-v3 or x86-64-v4", name);
}

const char *cpu_level_name(enum cpu_level level)
{
    return level_names[level];
}

static uint32_t *register_of(struct kvm_cpuid_entry2 *entry, enum cpu_register reg)
{
    uint32_t *registers[] = {&entry->eax, &entry->ebx, &entry->ecx, &entry->edx};
    return registers[reg];
}

static struct kvm_cpuid_entry2 *
entry_find(struct cpu_table *table, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < table->count; i++) {
        if (table->entries[i].function == leaf && table->entries[i].index == subleaf) {
            return &table->entries[i];
        }
    }
    return NULL;
}

static void hide(struct cpu_table *table)
{
    for (unsigned i = 0; i < ARRAY_COUNT(hidden); i++) {
        struct kvm_cpuid_entry2 *entry = entry_find(table, hidden[i].leaf, 0);
        if (entry != NULL) {
            *register_of(entry, hidden[i].reg) &= ~hidden[i].bits;
        }
    }
    struct kvm_cpuid_entry2 *vendor = entry_find(table, 0, 0);
    struct kvm_cpuid_entry2 *guards = entry_find(table, 7, 0);
    if (vendor != NULL && guards != NULL && vendor->ecx == 0x444d4163) { /* "cAMD" */
        guards->edx &= ~ARCH_CAPS; /* KVM offers it there, but the MSR faults */
    }
    struct kvm_cpuid_entry2 *counters = entry_find(table, PERFORMANCE_LEAF, 0);
    if (counters != NULL) {
        counters->eax = counters->ebx = counters->ecx = counters->edx = 0;
    }
}

/* Is the leaf one that a named level has? */
static bool leaf_is_named(const struct kvm_cpuid_entry2 *entry)
{
    uint32_t leaf = entry->function;
    if (leaf == STATE_LEAF && entry->index >= 2) {
        return (STATE_V4 >> (entry->index & 31u) & 1u) != 0 && entry->index < 32;
    }
    return leaf <= NAMED_LEAF_MAX || leaf == HYPERVISOR_LEAF || leaf == KVM_LEAF ||
           (leaf >= EXTENDED_LEAF && leaf <= ADDRESS_LEAF) || leaf == AMD_CACHE_LEAF ||
           leaf == AMD_CORE_LEAF;
}

/* The size that XSAVE needs for all states the level has: it ends the highest of them. */
static void state_size_set(struct cpu_table *table)
{
    struct kvm_cpuid_entry2 *state = entry_find(table, STATE_LEAF, 0);
    if (state == NULL) {
        return;
    }
    uint32_t size = 576; /* legacy area and header */
    for (uint32_t i = 2; i < 32; i++) {
        const struct kvm_cpuid_entry2 *part = entry_find(table, STATE_LEAF, i);
        if ((state->eax >> i & 1u) != 0 && part != NULL && part->ebx + part->eax > size) {
            size = part->ebx + part->eax;
        }
    }
    state->ecx = size;
}

static int word_apply(struct cpu_table *table,
                      const struct feature_word *word,
                      enum cpu_level level,
                      struct err *err)
{
    struct kvm_cpuid_entry2 *entry = entry_find(table, word->leaf, word->subleaf);
    uint32_t shown = 0;
    uint32_t needed = 0;
    for (unsigned i = CPU_V2; i <= level; i++) {
        shown |= word->shown[i];
        needed |= word->needed[i];
    }
    uint32_t have = entry != NULL ? *register_of(entry, word->reg) : 0;
    if ((needed & ~have) != 0) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "CPU %s: this host lacks bits 0x%x of CPUID 0x%x.%u E%cX, "
                       "which that level has; a lower one may do, or host",
                       level_names[level], needed & ~have, word->leaf, word->subleaf,
                       "ABCD"[word->reg]);
    }
    if (entry != NULL) {
        *register_of(entry, word->reg) &= shown;
    }
    return 0;
}

/* Of a range of leaves, the last. */
static void leaves_end(struct cpu_table *table, uint32_t first, uint32_t last)
{
    struct kvm_cpuid_entry2 *entry = entry_find(table, first, 0);
    if (entry != NULL && entry->eax > last) {
        entry->eax = last;
    }
}

static void drop_unnamed(struct cpu_table *table)
{
    const struct kvm_cpuid_entry2 *features = entry_find(table, FEATURES_LEAF, 0);
    /* AMD's leaves of its topology: some KVMs list them, empty, for others as well. */
    const bool has_topology = features != NULL && (features->ecx & TOPOLOGY_EXT) != 0;
    const uint32_t last = has_topology ? AMD_CORE_LEAF : ADDRESS_LEAF;
    unsigned kept = 0;
    for (unsigned i = 0; i < table->count; i++) {
        if (leaf_is_named(&table->entries[i]) && table->entries[i].function <= last) {
            table->entries[kept++] = table->entries[i];
        }
    }
    table->count = kept;
    leaves_end(table, 0, NAMED_LEAF_MAX);
    leaves_end(table, HYPERVISOR_LEAF, KVM_LEAF);
    leaves_end(table, EXTENDED_LEAF, last);
}

/* A guest that finds a page of its tables by so many bits finds it on each host. */
static int addresses_set(struct cpu_table *table, enum cpu_level level, struct err *err)
{
    struct kvm_cpuid_entry2 *entry = entry_find(table, ADDRESS_LEAF, 0);
    const uint32_t bits = entry != NULL ? entry->eax & 0xffu : 0;
    if (bits < CPU_ADDRESS_BITS) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "CPU %s: this host has %u bits of a physical address, and %u are "
                       "needed",
                       level_names[level], bits, CPU_ADDRESS_BITS);
    }
    entry->eax = LINEAR_BITS << 8 | CPU_ADDRESS_BITS;
    entry->edx = 0; /* of instructions that no level has */
    return 0;
}

int cpu_model_apply(struct cpu_table *table, enum cpu_level level, struct err *err)
{
    struct kvm_cpuid_entry2 *features = entry_find(table, 1, 0);
    if (features == NULL) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "CPU: KVM lists no features of this host's (CPUID 0x1): "
                       "it cannot be shown to a guest");
    }
    features->ecx |= HYPER | TSC_DL; /* KVM has the timer whatever the CPU has */
    for (unsigned i = 0; level != CPU_HOST && i < ARRAY_COUNT(words); i++) {
        int r = word_apply(table, &words[i], level, err);
        if (r < 0) {
            return r;
        }
    }
    if (level != CPU_HOST) {
        int r = addresses_set(table, level, err);
        if (r < 0) {
            return r;
        }
        drop_unnamed(table);
        state_size_set(table);
    }
    hide(table);
    return 0;
}

/* ---- topology */

/* How many bits number that many things. */
static uint32_t width_of(unsigned count)
{
    uint32_t width = 0;
    while ((1u << width) < count) {
        width++;
    }
    return width;
}

/* Leaf 0xb and its successor: threads of a core, then cores of the socket. */
static void place_levels(struct kvm_cpuid_entry2 *entry, unsigned index, unsigned count)
{
    const uint32_t kind = entry->index + 1; /* 1: thread, 2: core */
    entry->flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    entry->edx = index;
    if (entry->index > 1) {
        entry->eax = entry->ebx = 0;
        entry->ecx = entry->index;
        return;
    }
    entry->eax = entry->index == 0 ? 0 : width_of(count);
    entry->ebx = entry->index == 0 ? 1 : count;
    entry->ecx = entry->index | kind << 8;
}

/* Caches are a core's own, but for the last level, which the socket shares. */
static uint32_t cache_shared_by(const struct kvm_cpuid_entry2 *entry, unsigned count)
{
    uint32_t level = entry->eax >> 5 & 7u;
    return level >= 3 ? count - 1 : 0;
}

static void place_entry(struct kvm_cpuid_entry2 *entry, unsigned index, unsigned count)
{
    switch (entry->function) {
    case 1:
        entry->ebx = (entry->ebx & 0x0000ffffu) | count << 16 | index << 24;
        entry->edx = count > 1 ? entry->edx | HTT : entry->edx & ~HTT;
        break;
    case CACHE_LEAF:
        if ((entry->eax & 0x1fu) != 0) {
            entry->eax = (entry->eax & 0x3fffu) | cache_shared_by(entry, count) << 14 |
                         (count - 1) << 26;
        }
        break;
    case TOPOLOGY_LEAF:
    case TOPOLOGY_LEAF_NEW:
        place_levels(entry, index, count);
        break;
    case FEATURES_LEAF:
        entry->ecx = count > 1 ? entry->ecx | CMP_LEGACY : entry->ecx & ~CMP_LEGACY;
        break;
    case ADDRESS_LEAF:
        entry->ecx = (count - 1) | width_of(count) << 12;
        break;
    case AMD_CACHE_LEAF:
        if ((entry->eax & 0x1fu) != 0) {
            entry->eax = (entry->eax & 0x3fffu) | cache_shared_by(entry, count) << 14;
        }
        break;
    case AMD_CORE_LEAF:
        entry->eax = index;
        entry->ebx = index; /* core; one thread each */
        entry->ecx = 0;     /* node */
        break;
    default:
        break;
    }
}

/* KVM may list fewer levels of leaf 0xb than a topology needs. */
static void levels_complete(struct cpu_table *table)
{
    for (uint32_t level = 0; level < 3; level++) {
        if (entry_find(table, TOPOLOGY_LEAF, level) == NULL &&
            table->count < CPU_ENTRIES_MAX) {
            table->entries[table->count++] =
                (struct kvm_cpuid_entry2){.function = TOPOLOGY_LEAF,
                                          .index = level,
                                          .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
        }
    }
    struct kvm_cpuid_entry2 *basic = entry_find(table, 0, 0);
    if (basic != NULL && basic->eax < TOPOLOGY_LEAF) {
        basic->eax = TOPOLOGY_LEAF;
    }
}

void cpu_model_place(struct cpu_table *table, unsigned index, unsigned cpu_count)
{
    levels_complete(table);
    for (unsigned i = 0; i < table->count; i++) {
        place_entry(&table->entries[i], index, cpu_count);
    }
}

/* ---- a table that comes from elsewhere */

static uint32_t register_at(const struct cpu_table *table,
                            uint32_t leaf,
                            uint32_t subleaf,
                            enum cpu_register reg)
{
    for (unsigned i = 0; i < table->count; i++) {
        struct kvm_cpuid_entry2 entry = table->entries[i];
        if (entry.function == leaf && entry.index == subleaf) {
            return *register_of(&entry, reg);
        }
    }
    return 0;
}

/* Which older programs let a named level take from its host. */
static bool was_the_hosts(uint32_t leaf, enum cpu_register reg)
{
    return leaf == KVM_LEAF || (leaf == ADDRESS_LEAF && reg == REG_EAX);
}

static int another_cpu(uint32_t leaf,
                       uint32_t subleaf,
                       enum cpu_register reg,
                       uint32_t was,
                       uint32_t is,
                       struct err *err)
{
    return err_set(err, BERTH_EUNSUPPORTED,
                   "the guest knows another CPU: CPUID 0x%x.%u E%cX was 0x%x and would "
                   "be 0x%x here; %s",
                   leaf, subleaf, "ABCD"[reg], was, is,
                   was_the_hosts(leaf, reg)
                       ? "it was saved with --cpu host where there is more, or by an "
                         "older berth-vmm"
                       : "--cpu has to be what it was saved with, and if that was host "
                         "the CPUs have to be alike");
}

static int register_same(const struct cpu_table *saved,
                         const struct cpu_table *ours,
                         uint32_t leaf,
                         uint32_t subleaf,
                         enum cpu_register reg,
                         struct err *err)
{
    const uint32_t was = register_at(saved, leaf, subleaf, reg);
    const uint32_t is = register_at(ours, leaf, subleaf, reg);
    return was == is ? 0 : another_cpu(leaf, subleaf, reg, was, is, err);
}

static int word_same(const struct cpu_table *saved,
                     const struct cpu_table *ours,
                     const struct feature_word *word,
                     struct err *err)
{
    const uint32_t was = register_at(saved, word->leaf, word->subleaf, word->reg);
    const uint32_t is = register_at(ours, word->leaf, word->subleaf, word->reg);
    /* What KVM has learnt since is nothing to a guest that goes on. */
    const uint32_t wrong = word->leaf == KVM_LEAF ? was & ~is : was ^ is;
    return wrong == 0 ? 0
                      : another_cpu(word->leaf, word->subleaf, word->reg, was, is, err);
}

/* Of an address, physical and linear: no fewer bits. */
static int addresses_same(const struct cpu_table *saved,
                          const struct cpu_table *ours,
                          struct err *err)
{
    const uint32_t was = register_at(saved, ADDRESS_LEAF, 0, REG_EAX);
    const uint32_t is = register_at(ours, ADDRESS_LEAF, 0, REG_EAX);
    return (is & 0xffu) >= (was & 0xffu) && (is & 0xff00u) >= (was & 0xff00u)
               ? 0
               : another_cpu(ADDRESS_LEAF, 0, REG_EAX, was, is, err);
}

/* As a CPU spells it, over three registers. */
static void maker_of(const struct cpu_table *table, char ret_maker[MAKER_SIZE])
{
    static const enum cpu_register order[] = {REG_EBX, REG_EDX, REG_ECX};
    for (unsigned i = 0; i < ARRAY_COUNT(order); i++) {
        const uint32_t four = register_at(table, 0, 0, order[i]);
        memcpy(ret_maker + i * sizeof(four), &four, sizeof(four));
    }
    ret_maker[MAKER_SIZE - 1] = '\0';
    for (char *c = ret_maker; *c != '\0'; c++) {
        *c = *c >= ' ' && *c <= '~' ? *c : '?'; /* the file may say anything */
    }
}

/* No level makes one of the other. */
static int
makers_same(const struct cpu_table *saved, const struct cpu_table *ours, struct err *err)
{
    char was[MAKER_SIZE];
    char is[MAKER_SIZE];
    for (unsigned reg = REG_EBX; reg <= REG_EDX; reg++) {
        if (register_at(saved, 0, 0, reg) != register_at(ours, 0, 0, reg)) {
            maker_of(saved, was);
            maker_of(ours, is);
            return err_set(err, BERTH_EUNSUPPORTED,
                           "the guest knows a CPU of another maker: %s, and this host's "
                           "is %s; it goes on only on hosts of its own",
                           was, is);
        }
    }
    return 0;
}

int cpu_model_same(const struct cpu_table *saved,
                   const struct cpu_table *ours,
                   struct err *err)
{
    int r = makers_same(saved, ours, err);
    for (unsigned i = 0; r == 0 && i < ARRAY_COUNT(words); i++) {
        r = word_same(saved, ours, &words[i], err);
    }
    for (uint32_t part = 2; r == 0 && part < 32; part++) { /* size and place of each */
        r = register_same(saved, ours, STATE_LEAF, part, REG_EAX, err);
        if (r == 0) {
            r = register_same(saved, ours, STATE_LEAF, part, REG_EBX, err);
        }
    }
    return r < 0 ? r : addresses_same(saved, ours, err);
}

void cpu_table_write(const struct cpu_table *table, struct bytes_writer *writer)
{
    bytes_write_u32(writer, table->count);
    for (unsigned i = 0; i < table->count; i++) {
        const struct kvm_cpuid_entry2 *entry = &table->entries[i];
        const uint32_t fields[] = {entry->function, entry->index, entry->flags,
                                   entry->eax,      entry->ebx,   entry->ecx,
                                   entry->edx};
        for (unsigned field = 0; field < ARRAY_COUNT(fields); field++) {
            bytes_write_u32(writer, fields[field]);
        }
    }
}

int cpu_table_read(struct cpu_table *ret_table, struct bytes_reader *reader)
{
    ret_table->count = bytes_read_u32(reader);
    if (ret_table->count > CPU_ENTRIES_MAX) {
        bytes_reader_fail(reader);
    }
    for (unsigned i = 0; reader->error == 0 && i < ret_table->count; i++) {
        struct kvm_cpuid_entry2 *entry = &ret_table->entries[i];
        *entry = (struct kvm_cpuid_entry2){.function = bytes_read_u32(reader)};
        entry->index = bytes_read_u32(reader);
        entry->flags = bytes_read_u32(reader);
        entry->eax = bytes_read_u32(reader);
        entry->ebx = bytes_read_u32(reader);
        entry->ecx = bytes_read_u32(reader);
        entry->edx = bytes_read_u32(reader);
    }
    return reader->error != 0 ? BERTH_ECORRUPT : 0;
}
