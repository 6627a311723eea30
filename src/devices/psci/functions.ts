// Function ids and return values of PSCI 1.1 (DEN0022D chapter 5), SMCCC 1.1 (DEN0028) and the TRNG interface (DEN0098).

export const PSCI_VERSION = 0x8400_0000;
export const CPU_SUSPEND = 0x8400_0001;
export const CPU_SUSPEND_64 = 0xc400_0001;
export const CPU_OFF = 0x8400_0002;
export const CPU_ON = 0x8400_0003;
export const CPU_ON_64 = 0xc400_0003;
export const AFFINITY_INFO = 0x8400_0004;
export const AFFINITY_INFO_64 = 0xc400_0004;
export const MIGRATE_INFO_TYPE = 0x8400_0006;
export const SYSTEM_OFF = 0x8400_0008;
export const SYSTEM_RESET = 0x8400_0009;
export const PSCI_FEATURES = 0x8400_000a;
export const SYSTEM_RESET2 = 0x8400_0012;
export const SYSTEM_RESET2_64 = 0xc400_0012;

export const SUCCESS = 0n;
export const INVALID_PARAMETERS = -2n;
export const DENIED = -3n;
export const ALREADY_ON = -4n;
export const INTERNAL_FAILURE = -6n;
export const INVALID_ADDRESS = -9n;
/** Answers of AFFINITY_INFO. */
export const AFFINITY_ON = 0n;
export const AFFINITY_OFF = 1n;

export const SMCCC_VERSION = 0x8000_0000;
export const SMCCC_ARCH_FEATURES = 0x8000_0001;
export const SMCCC_ARCH_WORKAROUND_1 = 0x8000_8000;
export const SMCCC_ARCH_WORKAROUND_2 = 0x8000_7fff;
export const SMCCC_ARCH_WORKAROUND_3 = 0x8000_3fff;
/** SMCCC_ARCH_FEATURES: the workaround may be called, but this CPU does not need it. */
export const WORKAROUND_UNAFFECTED = 1n;
export const NOT_REQUIRED = -2n;

export const TRNG_VERSION = 0x8400_0050;
export const TRNG_FEATURES = 0x8400_0051;
export const TRNG_GET_UUID = 0x8400_0052;
export const TRNG_RND = 0x8400_0053;
export const TRNG_RND_64 = 0xc400_0053;
