// Memory behind the image: state, translation table, stacks. Names only, no bytes.

        .equ    MAX_CPUS, 8
        // Offsets from X28.
        .equ    S_UART, 0
        .equ    S_GICD, 8
        .equ    S_GICR, 16
        .equ    S_RAM_BASE, 24
        .equ    S_RAM_SIZE, 32
        .equ    S_MODEL, 40
        .equ    S_BOOT_CPU, 48          // affinity of the CPU that booted
        .equ    S_REG_AT, 56
        .equ    S_WANTED, 64
        .equ    S_GIC, 72               // 2 or 3
        .equ    S_CPUS, 76
        .equ    S_TIMER, 80             // INTID of the virtual timer
        .equ    S_SMC, 84               // 1: PSCI by SMC
        .equ    S_ADDRESS_CELLS, 88
        .equ    S_GIC2_MASK, 92
        .equ    S_LOCK, 96
        .equ    S_RAN, 100              // CPUs that have reported
        .equ    S_MPIDRS, 128           // MAX_CPUS times 8 bytes
        .equ    S_TAKEN, 192            // interrupts taken, 4 bytes for each INTID below 32
        .equ    S_SLOTS, 320            // pointer and length of the properties of a node
        .equ    S_SCRATCH, 448

image_end:
        .equ    state, (image_end + 4095) / 4096 * 4096
        .equ    table, state + 4096
        .equ    stacks, table + 4096
        .equ    end, stacks + 4096 * MAX_CPUS
