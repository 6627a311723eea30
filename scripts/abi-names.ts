/** What scripts/gen-abi.ts takes out of the kernel's headers, by the headers' own names. */

export interface Wanted {
  readonly constants: readonly string[];
  /** Structures, and which fields of each. */
  readonly structs: Readonly<Record<string, readonly string[]>>;
}

const words = (text: string): string[] => text.trim().split(/\s+/);

export const COMMON: Wanted = {
  constants: words(`
    KVM_API_VERSION
    KVM_GET_API_VERSION KVM_CREATE_VM KVM_CHECK_EXTENSION KVM_GET_VCPU_MMAP_SIZE
    KVM_CREATE_VCPU KVM_SET_USER_MEMORY_REGION KVM_GET_DIRTY_LOG KVM_CLEAR_DIRTY_LOG KVM_RESET_DIRTY_RINGS KVM_ENABLE_CAP
    KVM_IRQ_LINE KVM_IRQFD KVM_IOEVENTFD KVM_SIGNAL_MSI KVM_SET_GSI_ROUTING KVM_CREATE_IRQCHIP
    KVM_CREATE_DEVICE KVM_SET_DEVICE_ATTR KVM_GET_DEVICE_ATTR KVM_HAS_DEVICE_ATTR
    KVM_REGISTER_COALESCED_MMIO KVM_UNREGISTER_COALESCED_MMIO
    KVM_RUN KVM_GET_ONE_REG KVM_SET_ONE_REG KVM_GET_REG_LIST
    KVM_GET_MP_STATE KVM_SET_MP_STATE KVM_GET_VCPU_EVENTS KVM_SET_VCPU_EVENTS
    KVM_MEM_LOG_DIRTY_PAGES KVM_MEM_READONLY
    KVM_EXIT_UNKNOWN KVM_EXIT_EXCEPTION KVM_EXIT_IO KVM_EXIT_HYPERCALL KVM_EXIT_DEBUG KVM_EXIT_HLT KVM_EXIT_MMIO
    KVM_EXIT_IRQ_WINDOW_OPEN KVM_EXIT_SHUTDOWN KVM_EXIT_FAIL_ENTRY KVM_EXIT_INTR KVM_EXIT_INTERNAL_ERROR
    KVM_EXIT_SYSTEM_EVENT KVM_EXIT_IOAPIC_EOI KVM_EXIT_ARM_NISV KVM_EXIT_X86_RDMSR KVM_EXIT_X86_WRMSR
    KVM_EXIT_DIRTY_RING_FULL
    KVM_EXIT_IO_IN KVM_EXIT_IO_OUT
    KVM_SYSTEM_EVENT_SHUTDOWN KVM_SYSTEM_EVENT_RESET KVM_SYSTEM_EVENT_CRASH KVM_SYSTEM_EVENT_WAKEUP KVM_SYSTEM_EVENT_SUSPEND
    KVM_IOEVENTFD_FLAG_DATAMATCH KVM_IOEVENTFD_FLAG_PIO KVM_IOEVENTFD_FLAG_DEASSIGN
    KVM_IRQFD_FLAG_DEASSIGN KVM_IRQFD_FLAG_RESAMPLE
    KVM_IRQ_ROUTING_IRQCHIP KVM_IRQ_ROUTING_MSI KVM_MSI_VALID_DEVID
    KVM_MP_STATE_RUNNABLE KVM_MP_STATE_UNINITIALIZED KVM_MP_STATE_INIT_RECEIVED KVM_MP_STATE_HALTED
    KVM_MP_STATE_SIPI_RECEIVED KVM_MP_STATE_STOPPED
    KVM_CAP_USER_MEMORY KVM_CAP_IRQCHIP KVM_CAP_HLT KVM_CAP_NR_VCPUS KVM_CAP_MAX_VCPUS KVM_CAP_NR_MEMSLOTS
    KVM_CAP_IMMEDIATE_EXIT KVM_CAP_IOEVENTFD KVM_CAP_IOEVENTFD_ANY_LENGTH KVM_CAP_IRQFD KVM_CAP_IRQFD_RESAMPLE
    KVM_CAP_IRQ_ROUTING KVM_CAP_SIGNAL_MSI KVM_CAP_MSI_DEVID KVM_CAP_READONLY_MEM KVM_CAP_COALESCED_MMIO
    KVM_CAP_COALESCED_PIO KVM_CAP_DIRTY_LOG_RING KVM_CAP_DIRTY_LOG_RING_ACQ_REL KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
    KVM_CAP_DEVICE_CTRL KVM_CAP_MP_STATE KVM_CAP_ONE_REG KVM_CAP_VCPU_EVENTS KVM_CAP_SET_GUEST_DEBUG
    KVM_CAP_DESTROY_MEMORY_REGION_WORKS KVM_CAP_INTERNAL_ERROR_DATA KVM_CAP_CHECK_EXTENSION_VM KVM_CAP_PTP_KVM
    KVM_CAP_SYSTEM_EVENT_DATA
    KVM_CREATE_DEVICE_TEST
    KVM_INTERNAL_ERROR_EMULATION KVM_INTERNAL_ERROR_SIMUL_EX KVM_INTERNAL_ERROR_DELIVERY_EV
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON
    KVM_GUESTDBG_ENABLE KVM_GUESTDBG_SINGLESTEP KVM_GUESTDBG_USE_SW_BP
    KVM_DIRTY_GFN_F_DIRTY KVM_DIRTY_GFN_F_RESET
  `),
  structs: {
    kvm_userspace_memory_region: words('slot flags guest_phys_addr memory_size userspace_addr'),
    kvm_dirty_log: words('slot dirty_bitmap'),
    kvm_clear_dirty_log: words('slot num_pages first_page dirty_bitmap'),
    kvm_dirty_gfn: words('flags slot offset'),
    kvm_enable_cap: words('cap flags args'),
    kvm_irq_level: words('irq level'),
    kvm_irqfd: words('fd gsi flags resamplefd'),
    kvm_ioeventfd: words('datamatch addr len fd flags'),
    kvm_msi: words('address_lo address_hi data flags devid'),
    kvm_irq_routing: words('nr flags entries'),
    kvm_irq_routing_entry: words(
      'gsi type flags u.irqchip.irqchip u.irqchip.pin u.msi.address_lo u.msi.address_hi u.msi.data u.msi.devid',
    ),
    kvm_create_device: words('type fd flags'),
    kvm_device_attr: words('flags group attr addr'),
    kvm_coalesced_mmio_zone: words('addr size pio'),
    kvm_coalesced_mmio: words('phys_addr len pio data'),
    kvm_coalesced_mmio_ring: words('first last coalesced_mmio'),
    kvm_one_reg: words('id addr'),
    kvm_reg_list: words('n reg'),
    kvm_mp_state: words('mp_state'),
    kvm_run: words(`
      request_interrupt_window immediate_exit exit_reason ready_for_interrupt_injection if_flag flags cr8 apic_base
      hw.hardware_exit_reason fail_entry.hardware_entry_failure_reason fail_entry.cpu
      io.direction io.size io.port io.count io.data_offset
      mmio.phys_addr mmio.data mmio.len mmio.is_write
      hypercall.nr hypercall.args hypercall.ret hypercall.longmode
      internal.suberror internal.ndata internal.data
      system_event.type system_event.ndata system_event.data
      arm_nisv.esr_iss arm_nisv.fault_ipa
      msr.error msr.reason msr.index msr.data
      eoi.vector
    `),
  },
};

export const X86: Wanted = {
  constants: words(`
    KVM_SET_GUEST_DEBUG KVM_GET_REGS KVM_SET_REGS KVM_GET_SUPPORTED_CPUID KVM_SET_CPUID2 KVM_GET_MSRS KVM_SET_MSRS KVM_GET_MSR_INDEX_LIST
    KVM_GET_SREGS KVM_SET_SREGS KVM_GET_FPU KVM_SET_FPU KVM_GET_XSAVE KVM_SET_XSAVE KVM_GET_XCRS KVM_SET_XCRS
    KVM_GET_LAPIC KVM_SET_LAPIC KVM_GET_IRQCHIP KVM_SET_IRQCHIP KVM_CREATE_PIT2 KVM_GET_PIT2 KVM_SET_PIT2
    KVM_GET_DEBUGREGS KVM_SET_DEBUGREGS
    KVM_SET_TSS_ADDR KVM_SET_IDENTITY_MAP_ADDR KVM_SET_TSC_KHZ KVM_GET_TSC_KHZ KVM_GET_CLOCK KVM_SET_CLOCK KVM_KVMCLOCK_CTRL
    KVM_INTERRUPT KVM_NMI
    KVM_CAP_EXT_CPUID KVM_CAP_SPLIT_IRQCHIP KVM_CAP_PIT2 KVM_CAP_SET_TSS_ADDR KVM_CAP_SET_IDENTITY_MAP_ADDR
    KVM_CAP_TSC_CONTROL KVM_CAP_GET_TSC_KHZ KVM_CAP_X2APIC_API KVM_CAP_XSAVE KVM_CAP_XCRS KVM_CAP_XSAVE2 KVM_CAP_DEBUGREGS
    KVM_CAP_ADJUST_CLOCK KVM_CAP_TSC_DEADLINE_TIMER KVM_CAP_X86_USER_SPACE_MSR
    KVM_X2APIC_API_USE_32BIT_IDS KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK
    KVM_IRQCHIP_PIC_MASTER KVM_IRQCHIP_PIC_SLAVE KVM_IRQCHIP_IOAPIC
    KVM_DIRTY_LOG_PAGE_OFFSET KVM_CPUID_FLAG_SIGNIFCANT_INDEX KVM_PIT_SPEAKER_DUMMY
    KVM_VCPUEVENT_VALID_NMI_PENDING KVM_VCPUEVENT_VALID_SIPI_VECTOR KVM_VCPUEVENT_VALID_SHADOW
  `),
  structs: {
    kvm_guest_debug: words('control arch'),
    kvm_regs: words('rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags'),
    kvm_segment: words('base limit selector type present dpl db s l g avl unusable'),
    kvm_dtable: words('base limit'),
    kvm_sregs: words('cs ds es fs gs ss tr ldt gdt idt cr0 cr2 cr3 cr4 cr8 efer apic_base interrupt_bitmap'),
    kvm_cpuid2: words('nent entries'),
    kvm_cpuid_entry2: words('function index flags eax ebx ecx edx'),
    kvm_msrs: words('nmsrs entries'),
    kvm_msr_entry: words('index data'),
    kvm_msr_list: words('nmsrs indices'),
    kvm_fpu: words('fpr fcw fsw mxcsr'),
    kvm_lapic_state: words('regs'),
    kvm_irqchip: words('chip_id chip'),
    kvm_pit_config: words('flags'),
    kvm_pit_state2: words('channels flags'),
    kvm_xsave: words('region'),
    kvm_xcrs: words('nr_xcrs flags xcrs'),
    kvm_debugregs: words('db dr6 dr7 flags'),
    kvm_vcpu_events: words('exception interrupt nmi sipi_vector flags'),
    kvm_clock_data: words('clock flags realtime host_tsc'),
  },
};

export const ARM64: Wanted = {
  constants: words(`
    KVM_SET_GUEST_DEBUG KVM_ARM_PREFERRED_TARGET KVM_ARM_VCPU_INIT KVM_ARM_VCPU_FINALIZE KVM_ARM_SET_DEVICE_ADDR
    KVM_ARM_VCPU_POWER_OFF KVM_ARM_VCPU_PSCI_0_2 KVM_ARM_VCPU_PMU_V3 KVM_ARM_VCPU_SVE
    KVM_ARM_VCPU_PTRAUTH_ADDRESS KVM_ARM_VCPU_PTRAUTH_GENERIC
    KVM_CAP_ARM_PSCI_0_2 KVM_CAP_ARM_VM_IPA_SIZE KVM_CAP_ARM_PMU_V3 KVM_CAP_ARM_SVE KVM_CAP_ARM_PTRAUTH_ADDRESS
    KVM_CAP_ARM_PTRAUTH_GENERIC KVM_CAP_ARM_NISV_TO_USER KVM_CAP_ARM_INJECT_SERROR_ESR
    KVM_DEV_TYPE_ARM_VGIC_V2 KVM_DEV_TYPE_ARM_VGIC_V3 KVM_DEV_TYPE_ARM_VGIC_ITS
    KVM_DEV_ARM_VGIC_GRP_ADDR KVM_DEV_ARM_VGIC_GRP_DIST_REGS KVM_DEV_ARM_VGIC_GRP_CPU_REGS KVM_DEV_ARM_VGIC_GRP_NR_IRQS
    KVM_DEV_ARM_VGIC_GRP_CTRL KVM_DEV_ARM_VGIC_GRP_REDIST_REGS KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
    KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO KVM_DEV_ARM_VGIC_GRP_ITS_REGS
    KVM_DEV_ARM_VGIC_CTRL_INIT KVM_DEV_ARM_ITS_SAVE_TABLES KVM_DEV_ARM_ITS_RESTORE_TABLES
    KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES KVM_DEV_ARM_ITS_CTRL_RESET
    KVM_VGIC_V2_ADDR_TYPE_DIST KVM_VGIC_V2_ADDR_TYPE_CPU KVM_VGIC_V3_ADDR_TYPE_DIST KVM_VGIC_V3_ADDR_TYPE_REDIST
    KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION KVM_VGIC_ITS_ADDR_TYPE
    KVM_ARM_IRQ_VCPU2_SHIFT KVM_ARM_IRQ_TYPE_SHIFT KVM_ARM_IRQ_VCPU_SHIFT KVM_ARM_IRQ_NUM_SHIFT KVM_ARM_IRQ_TYPE_SPI
    KVM_ARM_IRQ_TYPE_PPI
    KVM_ARM_VCPU_PMU_V3_CTRL KVM_ARM_VCPU_PMU_V3_IRQ KVM_ARM_VCPU_PMU_V3_INIT
    KVM_REG_ARM64 KVM_REG_ARM_CORE KVM_REG_ARM64_SYSREG KVM_REG_SIZE_U32 KVM_REG_SIZE_U64 KVM_REG_SIZE_U128
    KVM_REG_SIZE_MASK KVM_REG_SIZE_SHIFT KVM_REG_ARM_TIMER_CNT
    PSCI_0_2_FN_SYSTEM_RESET
  `),
  structs: {
    kvm_guest_debug: words('control arch'),
    kvm_vcpu_init: words('target features'),
    kvm_regs: words('regs.regs regs.sp regs.pc regs.pstate sp_el1 elr_el1 spsr fp_regs'),
  },
};
